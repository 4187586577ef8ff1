"""Why a file has no answer, in the language of who asks: by the reason's code, since the runtime itself speaks English.

In English the runtime's own sentence stands, which knows more of the file than a code does. In the other languages the
code's sentence stands, and the runtime's own goes along as a detail. The title is the code's in every language.
"""

from __future__ import annotations

from typing import Any

from edge_runtime.errors import Fault, Reason
from edge_runtime.web.language import current_language, gettext

__all__ = ["explained"]


def explained(answer: dict[str, Any]) -> dict[str, str | None] | None:
    """Return what to show of an answer that is none; None of one that is.

    Returns
    -------
    dict
        ``title``, ``message``, ``remedy``, ``language`` (of message and remedy), and ``detail``: the runtime's own
        sentence in English where ``message`` is not it. ``remedy`` and ``detail`` may be null.
    """
    status, code = answer["status"], answer["reason"]
    if status == "ok":
        return None
    language = current_language()
    title, message, remedy = _by_code(code) or (None, None, None)
    if title is None:
        title = gettext("Not judged") if status == "refused" else gettext("No answer")
    own = sentence(answer["message"]) or gettext("The runtime gave no reason.")
    if language == "en" or message is None:
        english = "en" if answer["message"] else language
        return {
            "title": title, "message": own, "remedy": sentence(answer["remedy"]), "language": english, "detail": None,
        }  # fmt: skip
    return {"title": title, "message": message, "remedy": remedy, "language": language, "detail": own}


def sentence(text: str | None) -> str | None:
    """Return a line of a terminal as a sentence: a capital letter (a file's name keeps its own) and a full stop."""
    if not text:
        return None
    first = text.split(" ", 1)[0]
    if first.isalpha():
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def _by_code(code: str | None) -> tuple[str, str, str | None] | None:
    """Title, sentence, remedy of a reason's code; None of a code that this page does not know."""
    known: dict[str, tuple[str, str, str | None]] = {
        Reason.UNREADABLE: (
            gettext("Not judged: the file cannot be read"),
            gettext("The file is no image that this program reads, or it is damaged."),
            gettext("Export the radiograph again, as DICOM or PNG."),
        ),
        Reason.NOT_A_RADIOGRAPH: (
            gettext("Not judged: this is no frontal chest radiograph"),
            gettext("The picture does not look like the frontal chest radiographs that the model was trained on."),
            gettext("Choose a frontal chest radiograph, the whole image, without a screen or a frame around it."),
        ),
        Reason.LATERAL_VIEW: (
            gettext("Not judged: a lateral view"),
            gettext("The picture is a lateral view of the chest. The model knows frontal views only."),
            gettext("Choose the study's frontal view."),
        ),
        Reason.COLOUR_PHOTO: (
            gettext("Not judged: a colour photograph"),
            gettext("The picture is in colour. A photograph of a film or a screen is not judged."),
            gettext("Send the original file of the radiograph, as DICOM or PNG."),
        ),
        Reason.TOO_SMALL: (
            gettext("Not judged: the image is too small"),
            gettext("The image has too few pixels to be judged."),
            gettext("Export the radiograph itself, not its preview or icon."),
        ),
        Reason.TOO_LARGE: (
            gettext("Not judged: the file is too large"),
            gettext("The file, or what it unpacks to, is larger than this program opens."),
            gettext("Send one radiograph without other series or attachments."),
        ),
        Reason.MULTI_FRAME: (
            gettext("Not judged: several images in one file"),
            gettext("The file holds several images. A radiograph has one."),
            gettext("Export the image that should be judged alone."),
        ),
        Reason.NO_CONTRAST: (
            gettext("Not judged: the image shows nothing"),
            gettext("The image is one even grey."),
            gettext("Check exposure and window, and export the radiograph again."),
        ),
        Reason.INVERTED: (
            gettext("Not judged: black and white are swapped"),
            gettext("The picture seems to be inverted: bone is dark and air is bright."),
            gettext("Export it with bone bright, or as DICOM with its photometric interpretation."),
        ),
        Reason.ROTATED: (
            gettext("Not judged: the image is turned"),
            gettext("The radiograph seems to lie on its side or upside down."),
            gettext("Turn it so that the patient's head is up, and send it again."),
        ),
        Reason.CHILD_UNDER_LIMIT: (
            gettext("Not judged: the patient is too young for this model"),
            gettext("The patient is younger than those the model was trained on."),
            gettext("Have a reader judge the radiograph."),
        ),
        Fault.UNREACHABLE: (
            gettext("No answer"), gettext("The file could not be opened."), gettext("Send it again."),
        ),
        Fault.BACKEND_FAILED: (
            gettext("No answer"),
            gettext("The model failed on this file."),
            gettext("Send it again. If it fails again, run `edge-runtime selftest` where this page is served."),
        ),
        Fault.DECODER_TIMED_OUT: (
            gettext("No answer"),
            gettext("Opening the file took too long and was stopped."),
            gettext("Export the radiograph again, as DICOM or PNG."),
        ),
        Fault.DECODER_DIED: (
            gettext("No answer"),
            gettext("The part of the program that opens files failed on this one."),
            gettext("Export the radiograph again, as DICOM or PNG."),
        ),
        Fault.OUT_OF_MEMORY: (
            gettext("No answer"),
            gettext("There was not enough memory for this file."),
            gettext("Close other programs, or send a smaller image."),
        ),
        Fault.INTERNAL_ERROR: (
            gettext("No answer"), gettext("An unexpected error happened."),
            gettext("Please report it, with the file if it may be shared."),
        ),
    }  # fmt: skip
    return known.get(code or "")
