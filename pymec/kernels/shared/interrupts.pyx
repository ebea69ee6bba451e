"""Ctrl-C, or any signal whose handler raises, ends a long call of the main thread.

Python runs signal handlers in its main thread, between two steps of Python code, and a kernel takes none until
it has finished.  So a long call looks out for signals itself: :c:func:`interrupted`, asked between tasks, lets
the main thread run the handlers that wait, ten times a second.  If one raises, the tasks that are left do
nothing, and the exception is raised when the kernel has returned.

Several Python threads may compute at the same time, and all of them ask.  So the call is cut short only while it
is the only one, and a call that comes meanwhile waits until it has ended; beside other calls it goes on to its
end, and the exception is raised then.
"""

import threading
import time

from cpython.exc cimport PyErr_CheckSignals

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil

cdef extern from *:
    """
    #include <time.h>
    #if defined(CLOCK_MONOTONIC_COARSE)
    #define PYMEC_CLOCK CLOCK_MONOTONIC_COARSE
    #elif defined(CLOCK_MONOTONIC)
    #define PYMEC_CLOCK CLOCK_MONOTONIC
    #endif
    static double pymec_seconds(void) {
    #if defined(PYMEC_CLOCK)
        struct timespec now;
        clock_gettime(PYMEC_CLOCK, &now);
        return now.tv_sec + 1e-9 * now.tv_nsec;
    #else
        return (double) clock() / CLOCKS_PER_SEC;
    #endif
    }
    """
    double seconds "pymec_seconds"() noexcept nogil

LONG_CALL = 10**8
"""Multiply-adds of a call that looks out for signals: a tenth of a second where they are slowest."""

PAUSE = 0.1
"""Seconds from one look to the next."""

# All but the flags are read and written with the GIL held.
cdef int active = 0             # calls that run
cdef int stopping = 0           # a flag: the long call is being cut short
cdef unsigned long main_thread = 0
cdef double next_look = 0, pause = 0
cdef object pending = None      # the exception that a handler raised
watched = 0                     # a flag


cdef bint must_stop() noexcept nogil:
    """The part of :c:func:`interrupted` that a long call takes."""
    if load(stopping):
        return True
    if PyThread_get_thread_ident() != main_thread or seconds() < next_look:
        return False
    return run_handlers()


cdef bint run_handlers() noexcept with gil:
    """Run the handlers of signals that have arrived; whether one raised, and the call can be cut short."""
    global next_look, pending
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        pending = error
    next_look = seconds() + pause
    if pending is not None and active == 1:
        store(stopping, True)
    return load(stopping)


def run(multiply_adds, function, *arguments, **options):
    """Call ``function(*arguments, **options)``, a kernel of that many multiply-adds.

    Raises
    ------
    BaseException
        What the handler of a signal raised meanwhile, such as KeyboardInterrupt.
    """
    global active, main_thread, next_look, pause, pending
    cdef bint long_call = multiply_adds >= LONG_CALL and threading.current_thread() is threading.main_thread()
    cdef bint watch = long_call and not load(watched)  # a handler may call pymec, too
    while load(stopping):
        time.sleep(0.001)
    active += 1
    if watch:
        main_thread, pending, pause = PyThread_get_thread_ident(), None, PAUSE
        next_look = seconds() + pause
        store(watched, True)
    try:
        function(*arguments, **options)
    finally:
        active -= 1
        if watch:
            store(watched, False)
            store(stopping, False)
            error, pending = pending, None
            if error is not None:
                raise error


def forget():
    """In a forked child no call runs."""
    global active, pending
    active, pending = 0, None
    store(watched, False)
    store(stopping, False)
