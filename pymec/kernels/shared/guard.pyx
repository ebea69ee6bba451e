"""Something that is entered and left again, whatever Ctrl-C cuts short.

Python takes an interrupt between any two steps of Python code: also when ``__exit__`` has been called and before
its first line, so that what was entered would never be left.  Nor would a finalizer (``__del__``) be a remedy:
Python drops an interrupt that falls into one, and Ctrl-C is lost.  No interrupt falls between two steps of what is
compiled.
"""


cdef class Entered:
    """A base for what enters something else, with no frame of Python's between that and the ``with`` statement.

    memray's tracker notes the lines that are being run as it is entered; a frame that has returned since would
    take the caller's lines with it.  ``_prepared()`` gives what is to be entered, ``_refused(error)`` is told of a
    RuntimeError as it is, and ``_left()`` of its end.
    """

    cdef object inner

    def __enter__(self):
        self.inner = self._prepared()
        try:
            self.inner.__enter__()
        except RuntimeError as error:
            self.inner = None
            self._refused(error)
        return self

    def __exit__(self, kind, error, traceback):
        inner, self.inner = self.inner, None
        if inner is not None:
            inner.__exit__(kind, error, traceback)
            self._left()


cdef class Guard:
    """``with Guard(enter, leave, member):`` calls ``enter(member)``, and after the block ``leave(member)``.

    ``leave`` is called twice, since an interrupt may cut the first call short; it must allow for that, and for
    an ``enter`` that was cut short.
    """

    cdef object enter, leave, member

    def __init__(self, enter, leave, member):
        self.enter, self.leave, self.member = enter, leave, member

    def __enter__(self):
        try:
            self.enter(self.member)
        except BaseException:
            self.leave(self.member)
            raise

    def __exit__(self, *error):
        try:
            self.leave(self.member)
        finally:
            self.leave(self.member)
