"""Problems and pages: the forms that every part of the API shares."""

from sallyport.plan.fields import Model


class Issue(Model):
    """One thing wrong: a code, where (a pointer into the body, or a parameter's name), a sentence."""

    code: str
    pointer: str
    message: str


class Problem(Model):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retryable: bool
    issues: list[Issue] | None = None


class Page[T](Model):
    """Items by id; nextCursor is absent on the last page."""

    items: list[T]
    next_cursor: str | None = None
