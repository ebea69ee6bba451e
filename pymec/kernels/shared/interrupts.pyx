"""Ctrl-C, or any signal whose handler raises, ends a long call of the main thread.

Python runs signal handlers in its main thread, between two steps of Python code, and a kernel takes none until
it has finished.  So a long call looks out for signals itself: :c:func:`interrupted`, asked between tasks, lets
the main thread run the handlers that wait, ten times a second.  If one raises, the tasks that are left do
nothing, and the exception is raised when the kernel has returned.

Several Python threads may compute at the same time, and all of them ask.  So the call is cut short only while it
is the only one, and a call that comes meanwhile waits until it has ended.  Beside others the call goes on until it
is the only one, or has ended.  A stage that another thread calls by itself is not counted when it ends; from the
first of these on no call of this process is cut short any more.
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

# All of these are written with the GIL held.  Kernels read the flags, and the main thread's number and next look.
cdef int active = 0                    # calls that run
cdef set computing = set()             # the threads that make them
cdef bint stages_alone = False         # whether another thread than the main one has called a stage by itself
cdef int stopping = 0                  # a flag: the long call is being cut short
cdef unsigned long main_thread = threading.main_thread().ident
cdef double next_look = 0, pause = 0
cdef object pending = None             # the exception that a handler raised
watched = 0                            # a flag


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
    if pending is not None and active == 1 and not stages_alone:
        store(stopping, True)
    return load(stopping)


cdef int enter_stage() except -1:
    """What every stage begins with, and what a long one ends with: no work for a call that is being cut short."""
    global stages_alone
    cdef unsigned long thread = PyThread_get_thread_ident()
    if thread == main_thread:
        if load(stopping):
            raise pending
    elif thread not in computing:
        stages_alone = True
        wait_while_stopping()
    return 0


cdef int wait_while_stopping() except -1:
    while load(stopping):
        time.sleep(0.001)
    return 0


def run(multiply_adds, function, *arguments, **options):
    """Call ``function(*arguments, **options)``, a kernel of that many multiply-adds.

    Raises
    ------
    BaseException
        What the handler of a signal raised meanwhile, such as KeyboardInterrupt.
    """
    global active, next_look, pause, pending
    cdef unsigned long thread = PyThread_get_thread_ident()
    cdef bint nested = thread in computing  # a signal handler, or a finalizer, calls pymec, too
    cdef bint watch = multiply_adds >= LONG_CALL and thread == main_thread and not nested
    if not nested:
        wait_while_stopping()
    active += 1
    computing.add(thread)
    if watch:
        pending, pause = None, PAUSE
        next_look = seconds() + pause
        store(watched, True)
    try:
        function(*arguments, **options)
    finally:
        active = max(0, active - 1)
        if not nested:
            computing.discard(thread)
        if watch:
            store(watched, False)
            store(stopping, False)
            error, pending = pending, None
            if error is not None:
                raise error


def forget():
    """In a forked child no call runs, and the thread that forked is the main one."""
    global active, main_thread, pending
    active, pending, main_thread = 0, None, PyThread_get_thread_ident()
    computing.clear()
    store(watched, False)
    store(stopping, False)
