"""What is known of a partition's ends, without asking anybody.

    place = Ends()
    place.saw(end=17)          # a broker's answer: what is below 17 is committed
    place.read_to(14, 17)      # and from 14 up to there stand markers only
    place.end                  # 14

On Kafka the end of a transaction is a marker with an offset of its own. It is no record: a partition whose
last record was read has nothing waiting, wherever the markers behind it end.
"""


class Ends:
    """Where a partition begins and ends, as far as we were told."""

    __slots__ = ("_appended", "_empty_from", "_stable", "own", "start")

    def __init__(self) -> None:
        self.start = 0
        # What this process has committed itself is there, though the broker may not show it for a moment:
        # its answer to a commit comes before the transaction's markers are written.
        self.own = 0
        self._stable = 0
        self._empty_from = 0
        self._appended = 0

    @property
    def end(self) -> int:
        """Behind the last record that is known of."""
        return max(self._empty_from, self._appended)

    @property
    def readable_end(self) -> int:
        """Behind the last record that any up-to-date broker shows: what is below it is not missing."""
        return self._empty_from

    def appended(self, end: int) -> None:
        """This process has put records up to here: an open transaction before them may still hide them."""
        self._appended = max(self._appended, end)

    def saw(self, end: int) -> None:
        """Records may reach up to here. An older answer, arriving late, says nothing."""
        if end > self._stable:
            self._stable = end
            self._empty_from = end

    def read_to(self, offset: int, end: int) -> None:
        """From `offset` up to `end` there is no record."""
        self.saw(end)
        if end >= self._stable:
            self._empty_from = min(self._empty_from, offset)
