"""Pictures whose files cannot be read, as items: torch would turn their errors into tracebacks."""

from dataclasses import dataclass

from torch.utils.data import Dataset

from boxmask.data.transforms import Sample
from boxmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A picture whose file cannot be read.

    Attributes:
        index: its position in the records.
        error: why, with the file's name and what to do.
    """

    index: int
    error: UserError

    @property
    def reason(self) -> str:
        """Why, in one line that names the file."""
        return f"{self.error.where}  {self.error.what}"


class ReadableDataset(Dataset):
    """A data set of samples whose unreadable pictures become `Unreadable` items."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, str, Sample] | Unreadable:
        try:
            return self.dataset[index]
        except UserError as error:
            return Unreadable(index=index[1], error=error)
