"""A plain question about pictures, as a sample."""

from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn


def question(images, text="What is in the pictures?"):
    """Return a sample of one turn that shows so many images."""
    parts = (*(ImagePart(number) for number in range(images)), TextPart(text))
    return Sample(
        identity=RowIdentity(0, "made", None, "absent"),
        turns=(Turn("user", parts), Turn("assistant", (TextPart("Shapes."),))),
        images=tuple(ImageReference(str(number), str(number)) for number in range(images)),
        images_in_front=False,
        text_sha256="",
    )
