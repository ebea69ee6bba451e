"""Something that is entered and left again, whatever Ctrl-C cuts short.

Python takes an interrupt between any two steps of Python code: also when ``__exit__`` has been called and before
its first line, so that what was entered would never be left.  Nor would a finalizer (``__del__``) be a remedy:
Python drops an interrupt that falls into one, and Ctrl-C is lost.  No interrupt falls between two steps of what is
compiled.
"""


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
