"""What customers write: ticket titles and comments, the ordinary ones and those that break programs."""

from random import Random

PRAISE = (
    "{agent} was great, thank you!",
    "quick fix",
    "Very quick and friendly.",
    "{agent} sorted the {topic} in ten minutes.",
    "Thanks {agent}, {topic} works again.",
    "Excellent as always",
    "Patient, and explained what went wrong with the {topic}.",
    "Best IT support we have had. {agent} stayed on the line until the {topic} was really fixed.",
    "All good now 👍",
    "😀",
    "{agent} is a star ⭐⭐⭐⭐⭐",
)
INDIFFERENCE = (
    "Took a while, but the {topic} works now.",
    "OK",
    "Solved in the end, after explaining it to three people.",
    "{agent} was polite, the wait was long.",
    "Not sure whether the {topic} is really fixed?",
    "Fine. It would help to hear back sooner.",
)
COMPLAINTS = (
    "Third time this month that the {topic} fails.",
    "Ticket was closed, {topic} still does not work!",
    "Nobody called back for two days.",
    "{agent} closed this without asking. Please reopen.",
    "Waited 4 hours for the {topic}. Not acceptable.",
    "We are paying for support that does not answer the phone 😡",
    "Had to solve the {topic} problem myself.",
    "Disappointing. {agent} did not read what I wrote.",
)
OUTAGE_COMPLAINTS = (
    "Everything down AGAIN, and no word from you.",
    "We lost two working days to this outage.",
    "Mail is still down. What is going on?",
    "Your status page said all green while we could not work.",
)
ODDITIES = (
    'He said "it works on my machine", it doesn\'t.',
    "Robert'); DROP TABLE reviews;--",
    "' OR 1=1 --",
    "SELECT * FROM tickets WHERE solved = NULL;",
    "line one\nline two\r\nline three\n\n-- \nsent from my phone",
    "<script>alert('hello')</script> <b>thanks</b>",
    "=HYPERLINK(\"http://example.com\",\"click\")",
    "C:\\Users\\kim\\Desktop\tno longer opens, 100% \\n",
    "null",
    "",
    "   ",
    "Ça marche! 非常感谢 👩🏽‍💻🇺🇸 شكرا",
    "{{ topic }} {agent} %s $1 ${HOME}",
    "zero\u200bwidth, nbsp\u00a0, right-to-left \u202eoverride\u202c",
    "- 5 stars\n- would recommend;\n- \"really\", 'really'",
)  # fmt: skip
LONG_STORY = "And then I was put through to somebody else, who asked me for the serial number of the {topic} again. "
TITLES = (
    "{Topic} not working",
    "{Topic} issue",
    "Question about {topic}",
    "Re: {topic}",
    "URGENT: {topic}",
    "{Topic} down",
    "New {topic}",
    "{Topic}: follow-up",
)

NPS_COMMENTS = {
    "promoter": ("They know our business.", "Always there when it matters 🙌", "Never again without you."),
    "passive": ("Good technicians, slow quotes.", "Does what it should.", "Fine so far."),
    "detractor": ("We are looking around.", "Too many tickets for one thing.", "Expensive for what we get."),
}
PROJECT_COMMENTS = (
    "On time and no surprises.",
    "Communication could have been better in the last week.",
    "The hand-over was excellent.",
    "Budget overrun of 20 %, nobody told us.",
    'Great team, "thank you"!',
)

TAGS = (("follow-up",), ("follow-up",), ("follow-up", "called back"), ("escalated",), ("training",))


def title(rng: Random, topic: str) -> str:
    return rng.choice(TITLES).format(topic=topic, Topic=topic[0].upper() + topic[1:])


def comment(rng: Random, rating: int, topic: str, agent: str, in_outage: bool) -> str | None:
    if rng.random() > {1: 0.3, 0: 0.5, -1: 0.75}[rating]:
        return None
    chance = rng.random()
    if chance < 0.02:
        return rng.choice(ODDITIES)
    if chance < 0.024:
        return LONG_STORY.format(topic=topic) * rng.randint(15, 40)
    if rating == -1 and in_outage and chance < 0.6:
        return rng.choice(OUTAGE_COMPLAINTS)
    pool = {1: PRAISE, 0: INDIFFERENCE, -1: COMPLAINTS}[rating]
    return rng.choice(pool).format(topic=topic, agent=agent.split(" ")[0] or "The technician")


def nps_comment(rng: Random, score: int) -> str | None:
    if rng.random() < 0.6:
        return None
    if rng.random() < 0.02:
        return rng.choice(ODDITIES)
    return rng.choice(NPS_COMMENTS["promoter" if score > 8 else "passive" if score > 6 else "detractor"])
