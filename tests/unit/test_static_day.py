"""Days of static limits, which nobody tells the end of, against a Discord whose day begins with its first IDENTIFY."""

from nats_identify.schedule.model import DAY, SECOND, Limits, Outcome
from tests.unit.cluster import Cluster
from tests.unit.desk import Desk, replies

HOUR_MS = 3_600_000
MARGINAL_MS = 90_000  # our day is 0.1 % longer: 86.4 s


class Discord:
    """Counts as Discord does: a day begins with the first IDENTIFY after the one before has ended."""

    def __init__(self):
        self._began_ns = -DAY
        self.count = self.worst = 0

    def identify(self, now_ns):
        if now_ns - self._began_ns >= DAY:
            self._began_ns, self.count = now_ns, 0
        self.count += 1
        self.worst = max(self.worst, self.count)


class Bot:
    """A desk whose shards identify at once, and may lose the answer."""

    def __init__(self, total):
        self.desk, self.discord = Desk(total=total), Discord()
        self.asked = 0

    def start(self, shards=1, *, answers=True):
        for _ in range(shards):
            self.asked += 1
            for grant in replies(self.desk.ask(self.asked)):
                self.discord.identify(self.desk.now_ns)
                if answers:
                    self.desk.answer(grant.grant_id)
                    self.desk.answer(grant.grant_id, Outcome.READY)
            self.desk.pass_ms(11_000)


def test_what_is_used_between_discord_s_day_and_ours_counts_for_the_next_one():
    bot = Bot(total=3)
    bot.start()
    bot.desk.pass_ms(24 * HOUR_MS - 10_000)
    bot.start()  # Discord's second day has begun, ours not yet
    bot.desk.pass_ms(MARGINAL_MS)
    bot.start(3)
    assert bot.discord.worst == 3


def test_an_answer_that_was_lost_makes_no_second_day():
    bot = Bot(total=10)
    bot.start(answers=False)
    bot.desk.pass_ms(20 * HOUR_MS)
    bot.start()  # the first that is known to have been used: our day ends 20 hours after Discord's
    bot.desk.pass_ms(10 * HOUR_MS)
    bot.start(6)
    bot.desk.pass_ms(14 * HOUR_MS + 2 * MARGINAL_MS)
    bot.start(10)
    assert bot.discord.worst <= 10
    bot.desk.pass_ms(25 * HOUR_MS)
    assert bot.desk.view.remaining == 10  # and it is carried no further


def test_a_day_without_a_fault_is_whole_again():
    bot = Bot(total=5)
    bot.start(5)
    bot.desk.pass_ms(24 * HOUR_MS + MARGINAL_MS)
    assert bot.desk.view.remaining == 5


def days(cluster):
    return {name: cluster.view(name).static_day for name in cluster.replicas}


def test_a_successor_knows_since_when_the_day_runs():
    cluster = Cluster("a", "b", static=Limits(1, 3, 3))
    cluster.ask(0)
    charged_ns = cluster.now_ns
    cluster.pass_ms(5_000)
    cluster.kill("a")
    cluster.pass_ms(4_000)
    assert cluster.leader == "b"
    assert charged_ns - 10 * SECOND < days(cluster)["b"].first_ns <= charged_ns + 10 * SECOND


def test_whoever_comes_to_a_ledger_that_nobody_kept_takes_every_charge_for_the_next_day_s_too():
    cluster = Cluster("a", static=Limits(1, 10, 10))
    cluster.ask(0)
    cluster.kill("a")
    cluster.pass_ms(60_000)
    cluster.start("b")
    cluster.pass_ms(15_000)
    cluster.ask(1)
    day = days(cluster)["b"]
    assert [body.shard_id for _, body in cluster.grant_log] == [0, 1]
    assert (day.late, day.late_ns) == (1, cluster.now_ns)
    cluster.replicas["b"].schedule.state.budget.end_day(cluster.now_ns + 2 * DAY, unconfirmed_count=0)
    assert cluster.view("b").remaining == 9
