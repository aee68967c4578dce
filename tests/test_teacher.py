import pytest
import torch
from torch import nn

from fastreid_fancl.teacher import MeanTeacher


def student(seed=0):
    torch.manual_seed(seed)
    return nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "heads": nn.Linear(4, 2)})


def teacher_of(model, momentum=0.9):
    return MeanTeacher(momentum, **dict(model.items()))


def fill(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_a_parameter_moves_by_one_minus_alpha_of_the_way():
    # 0.9 * 1 + 0.1 * 3 = 1.2, then 0.9 * 1.2 + 0.1 * 5 = 1.58.
    model = student()
    fill(model, 1.0)
    teacher = teacher_of(model)
    for value, expected in ((3.0, 1.2), (5.0, 1.58)):
        fill(model, value)
        teacher.update(model)
        for parameter in teacher.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


def test_the_student_does_not_change_with_its_teacher():
    model = student()
    teacher = teacher_of(model, momentum=0.5)
    fill(teacher, 7.0)
    assert not any((parameter == 7).any() for parameter in model.parameters())
    before = [parameter.clone() for parameter in model.parameters()]
    teacher.update(model)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_teacher_of_its_students_weights_keeps_them_bit_for_bit():
    model = student()
    teacher = teacher_of(model, momentum=0.999)
    for _ in range(20):
        teacher.update(model)
    for name, parameter in teacher.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))


def test_running_statistics_are_of_what_the_teacher_saw():
    model = student()
    teacher = teacher_of(model)
    model.backbone(torch.randn(8, 3))
    teacher.update(model)
    norm = teacher.backbone[1]
    assert torch.equal(norm.running_mean, torch.zeros(4)), "the student's statistics came in"

    images = torch.randn(8, 3)
    seen = teacher.backbone[0](images)
    teacher.train().backbone(images)
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean(0))


def test_nothing_of_a_teacher_is_trained():
    model = student()
    teacher = teacher_of(model)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_teachers_state_has_the_students_names_and_is_restored():
    model = student()
    teacher = teacher_of(model)
    assert teacher.state_dict().keys() == model.state_dict().keys()
    other = teacher_of(student(seed=1))
    other.load_state_dict(teacher.state_dict())
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_a_momentum_that_is_no_share_is_refused(momentum):
    with pytest.raises(ValueError, match=rf"teacher's momentum in \[0, 1\].* got {momentum}"):
        MeanTeacher(momentum)
