"""One job at a time, when its result is asked for: the reference."""

from __future__ import annotations

from aflctl.train.jobs import Kit, Spec, Trained, train


class Serial:
    """Trains at arrival; what is recalled is trained shorter, what is lost is never trained."""

    name = "serial"

    def __init__(self, kit: Kit) -> None:
        self.kit, self.rows = kit, 1
        self.notes: list[str] = []

    def start(self, spec: Spec, due: int) -> None:
        """Nothing to do yet."""

    def shorten(self, spec: Spec) -> None:
        """The spec carries its new length."""

    def cancel(self, task: int) -> None:
        """Nothing was begun."""

    def result(self, spec: Spec) -> Trained:
        return train(self.kit, spec)

    def ahead(self) -> dict[int, Trained]:
        """None: any job can be trained again to the same bits."""
        return {}

    def close(self) -> None:
        """Nothing to release."""
