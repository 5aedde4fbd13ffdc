"""Puts antispam together; the only place that names its concrete parts."""

from collections.abc import Callable

from antispam.checkers.blocklist import Blocklist
from antispam.checkers.flood import Flood
from antispam.checkers.links import Links
from antispam.checkers.near_duplicate import NearDuplicate
from antispam.consumer import Antispam
from antispam.judge import Judge
from antispam.late import LateAntispam
from antispam.rules import Rules, time_of_sending
from antispam.service import CheckerService
from antispam.settings import Settings
from antispam.teams import TeamChecker
from antispam.verdict import Candidate
from mesh.amqp import LATE, MESSAGES, Consumer, Publisher
from mesh.breaker import Part
from mesh.lifecycle import App
from messenger.antispam.v1.antispam_pb2_grpc import CheckerServiceStub, add_CheckerServiceServicer_to_server


def rules(settings: Settings, clock: Callable[[Candidate], float] | None = None) -> Rules:
    """The own rules, as the settings want them."""
    return Rules(
        [
            Blocklist(senders=settings.blocked_senders, words=settings.blocked_words),
            Links(
                blocked_domains=settings.blocked_domains,
                max_links=settings.links_max,
                max_contacts=settings.contacts_max,
            ),
            Flood(
                messages=settings.flood_messages,
                receivers=settings.flood_peers,
                window=settings.flood_window,
            ),
            NearDuplicate(
                receivers=settings.duplicate_receivers,
                length=settings.duplicate_length,
                window=settings.duplicate_window,
            ),
        ],
        clock=clock,
    )


def _teams(stubs: dict[str, CheckerServiceStub], role: str, seconds: float) -> list[TeamChecker]:
    """A checker for each address, with a breaker of its own for this role."""
    return [
        TeamChecker(address, stub.Check, Part(f"{role} {address}", seconds=seconds))
        for address, stub in stubs.items()
    ]


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts antispam's parts."""
    enter = app.stack.enter_async_context
    budget = settings.antispam_checkers_ms / 1000
    own = rules(settings)
    late_budget = settings.antispam_late_budget_ms / 1000
    late_own = rules(settings, time_of_sending())
    stubs = {
        address: CheckerServiceStub(await app.channel(address)) for address in settings.antispam_checkers
    }
    teams = _teams(stubs, "checker", budget)
    late_teams = _teams(stubs, "late checker", late_budget)
    topology = settings.topology()
    publisher = await enter(Publisher(settings.amqp_url, topology, name="antispam"))
    handler = Antispam(
        Judge([own, *teams], budget=budget), publisher, budget=settings.antispam_budget_ms / 1000
    )
    consumer = Consumer(
        settings.amqp_url, topology, MESSAGES, handler, publisher, drain_timeout=settings.drain_seconds
    )
    late_handler = LateAntispam(Judge([late_own, *late_teams], budget=late_budget), publisher)
    late_consumer = Consumer(
        settings.amqp_url, topology, LATE, late_handler, publisher, drain_timeout=settings.drain_seconds
    )

    app.serve(add_CheckerServiceServicer_to_server, CheckerService(Judge([own], budget=budget)))
    app.check("publisher", publisher.ready)
    app.check("consumer", consumer.ready)
    await enter(consumer)
    await enter(late_consumer)
