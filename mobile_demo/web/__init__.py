"""A page that classifies on the phone itself, written as static files from a bundle: ``python -m mobile_demo.web``."""
