from types import SimpleNamespace

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from boxmask.api.fit_errors import FitErrors, errors_in_words
from boxmask.errors import UserError

ERRORS = FitErrors(part=4, image_size=320)
BAD_PICTURE = UserError("cannot read a picture", where="a.png", fix="look at it")


def outcome(error, *, said_by_processes=()):
    """What comes out when a training ends with an error, and its processes with these."""
    trainer = SimpleNamespace(messenger=None)
    found = None
    try:
        with errors_in_words(trainer, ERRORS):
            for one in said_by_processes:
                trainer.messenger.tell(one)
            raise error
    except Exception as caught:
        found = caught
    assert trainer.messenger is None
    return found


def ended():
    return ProcessRaisedException("-- Process 1 terminated:\nTraceback ...", 1, 77)


def test_an_error_of_a_process_arrives_whole():
    found = outcome(ended(), said_by_processes=[BAD_PICTURE, UserError("and another")])
    assert isinstance(found, UserError)
    assert (found.what, found.where, found.fix) == ("cannot read a picture", "a.png", "look at it")


def test_memory_of_a_process():
    killed = ProcessExitedException("process 0 terminated", 0, 77, -6, "SIGABRT")
    found = outcome(killed, said_by_processes=[torch.OutOfMemoryError("CUDA out of memory.\nMore")])
    assert found.what.startswith("the device's memory is too small for 4 pictures of 320 pixels")
    assert found.where == "CUDA out of memory."


def test_errors_of_this_process():
    assert outcome(BAD_PICTURE) is BAD_PICTURE
    found = outcome(torch.OutOfMemoryError("CUDA out of memory."))
    assert isinstance(found, UserError)
    assert "--accumulate" in found.fix


def test_what_nobody_foresaw_stays_as_it_is():
    for error in (ended(), ValueError("a bug")):
        assert outcome(error, said_by_processes=[ValueError("a bug")]) is error
