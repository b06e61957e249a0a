"""A sender that was taken for gone and is not: what it sends again must not run again."""

from __future__ import annotations

from cluster_app import ClusterConfig
from cluster_app.exchange import Answer, Request
from cluster_app.testing import MemoryCluster
from entities.catalog import Counter
from tests.cluster.overheard import overheard


def test_the_first_frame_of_a_swept_lane_runs_once() -> None:
    """Its answer was lost and nothing acknowledged: sent again after the sweep, it is not taken for a new lane's."""
    with MemoryCluster(runners=1, config=ClusterConfig(lane_silence_s=5.0)) as cluster:
        (memory,) = cluster._memory._runners.values()
        carry = memory.exchange
        requests = overheard(memory)
        counter = cluster.entity(Counter, "x")
        assert counter.increment.remote().result(30) == 1
        first = next(request for request in requests if request.parcel is not None)._replace(sender="a ghost")

        def ask(request: Request) -> Answer:
            answers: list[Answer | BaseException] = []
            carry(request, answers.append)
            cluster.clock.settle()
            (answer,) = answers
            assert isinstance(answer, Answer)
            return answer

        assert ask(first).received == 1
        assert counter.read.remote().result(30) == 2
        assert ask(first._replace(resume=True)).received == 1  # known, so it is told again and not run again
        cluster.clock.advance(7.0)
        assert ask(first._replace(resume=True)).received == -1
        assert counter.read.remote().result(30) == 2
