import torch

from runners import torch_errors


def test_an_operation_that_is_refused_in_a_capture_breaks_no_device():
    error = torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")
    assert torch_errors.is_capture_failure(error)
    assert not torch_errors.is_broken_device(error)


def test_an_illegal_address_breaks_the_device():
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert torch_errors.is_broken_device(error)
    assert not torch_errors.is_capture_failure(error)
