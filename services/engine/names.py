"""Names for containers that were given none: an adjective of the sea and somebody who sailed, dived or charted it."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["random_name"]

ADJECTIVES = (
    "able abyssal amber anchored azure breezy brisk bright briny calm coastal coral cresting daring deep drifting "
    "eager easterly ebbing fair fathomless fleet floating foamy gentle glassy hardy keen leeward lively lucid lunar "
    "marine mild misty moonlit mighty nimble northerly patient pearly pelagic quiet rapid rising roving sailing "
    "salty seaworthy serene shining silver southerly spry starboard steady stern stormy sunlit swift tidal tranquil "
    "trim upbeat vast vigilant westerly windward"
).split()
SAILORS = (
    "amundsen anning bancroft baret barents bass beaufort bering bougainville cabot carson cartier caspari cook "
    "cousteau dampier davis diaz drake earle ekman elcano flinders fram franklin frobisher gama grace harrison "
    "hudson humboldt joyon knox kon-tiki laperouse macarthur magellan maury mercator moitessier nansen nelson "
    "piccard polo pytheas raleigh ross rozier scott shackleton slocum tabarly tasman tharp triton vancouver verne "
    "vespucci wallis walsh zheng"
).split()


def random_name(taken: Callable[[str], bool]) -> str:
    """Return a name that is not taken, with a number at its end if need be."""
    for attempt in range(1000):
        name = f"{random.choice(ADJECTIVES)}_{random.choice(SAILORS)}"
        if attempt > 10:
            name += str(random.randrange(1_000_000))
        if not taken(name):
            return name
    raise RuntimeError("no free name found")
