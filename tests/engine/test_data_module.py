from pathlib import Path
from types import SimpleNamespace

import numpy as np

from boxmask.data.loader import LoaderSettings
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import AugmentationSettings
from boxmask.engine.data_module import TrainingData, TrainingDataModule


def record(number):
    return ImageRecord(
        path=Path(f"{number}.png"),
        name=f"{number}.png",
        image_size=(40, 60),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        annotation_ids=(),
        crowd=np.zeros(0, bool),
        segmentations=(),
        image_id=number,
    )


def test_each_process_gets_its_share_of_the_current_epoch():
    data = TrainingData(
        records=[record(number) for number in range(8)],
        augmentation=AugmentationSettings(),
        loader=LoaderSettings(batch_size=2, seed=1),
        masks="ignore",
        steps_per_epoch=2,
    )
    seen = []
    for rank in range(2):
        module = TrainingDataModule(data)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2, global_step=12)
        keys = [key for batch in module.train_dataloader().batch_sampler for key in batch]
        assert {epoch for epoch, _ in keys} == {6}
        assert len(keys) == 4
        seen += [index for _, index in keys]
    assert sorted(seen) == list(range(8))
