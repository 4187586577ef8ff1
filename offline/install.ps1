# Install edge-runtime from this folder on Windows, without a network:  powershell -File install.ps1 [FOLDER]
# Written after install.sh and not tried on Windows. Needs wheels made with: wheelhouse.py --machine windows
param([string]$Target = "$env:LOCALAPPDATA\Programs\edge-runtime")
$ErrorActionPreference = "Stop"
$wanted = (Get-Content "$PSScriptRoot\PYTHON").Trim()
& py "-$wanted" -m venv $Target
if ($LASTEXITCODE -ne 0) { throw "Python $wanted is not installed" }
& "$Target\Scripts\python.exe" -m pip install --quiet --no-index --find-links "$PSScriptRoot\windows" --require-hashes --requirement "$PSScriptRoot\requirements-windows.txt"
if ($LASTEXITCODE -ne 0) { throw "the wheels could not be installed" }
& "$Target\Scripts\edge-runtime.exe" --version
Write-Output "At boot: Task Scheduler, a task that runs '$Target\Scripts\edge-runtime.exe watch ...' when the computer starts."
