"""Words that carry no content: what of a text says little of what it is about."""

from __future__ import annotations

_STOP = """
    a about above after again against all alright also am amazing an and any anyone anything are aren as at
    awesome be because been before being below between both but by bye can cannot cool could couldn d did didn
    do does doesn doing don down during each else ever every few fine for from further get gets getting give
    glad go goes going gonna good goodbye got great ha had hadn haha has hasn have haven having he hello help
    her here hers herself hey hi him himself his how i if in interesting into is isn it its itself just know let
    like ll lol m many may maybe me might mine more most much must my myself nice no nor not now of off oh ok
    okay on once one only or other our ours ourselves out over own please re really s same shall she
    should shouldn so some someone something sorry sounds still such sure t tell than thank thanks that the
    their theirs them themselves then there these they thing things this those through thx to too under until up
    us ve very was wasn way we welcome well were weren what when where which while who whom whose why will with
    won would wouldn wow yeah yes yet you your yours yourself
"""
STOP_WORDS = frozenset(_STOP.split())
