"""Words and phrases for times in French, Spanish and Portuguese; see time_words.py."""

from __future__ import annotations

from .time_language import ACCENT, Language, Phrase, spelled, words_for
from .time_resolvers import (
    FORTNIGHT_AGO,
    LAST,
    LAST_NIGHT,
    WEEK_AGO,
    Unit,
    ago,
    calendar,
    past,
    period,
    some_day,
    weekday,
)

_D, _W, _M, _Y = int(Unit.DAY), int(Unit.WEEK), int(Unit.MONTH), int(Unit.YEAR)
_WEEKEND, _NIGHT = int(Unit.WEEKEND), int(Unit.NIGHT)
_ONE = {"count": 1}
# "vendredi 8 mai", "el viernes, 8 de mayo": the date has been read
_NO_DATE = r"(?!,? (?:le |el |dia )?\|)"

DUTCH = Language(
    words={},
    phrases=(),
    common="het een ik je jij de en van niet wat waar hoe wie zijn was heb hebt heeft is dit dat voor met op maar mijn",
)
"""Known so that it is not taken for French."""


FRENCH = Language(
    words={
        "month": spelled("janvier|fevrier|mars|avril|mai|juin|juillet|aout|septembre|octobre|novembre|decembre"),
        "short": spelled("janv|fevr fev||avr|||juil||sept|oct|nov|dec"),
        "weekday": spelled("lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche", 0),
        "season": {"hiver": 12, "printemps": 3, "ete": 6, "automne": 9},
        "count": spelled("un une|deux|trois quelques|quatre plusieurs|cinq|six|sept|huit|neuf|dix|onze|douze"),
        "unit": words_for({_D: "jour jours", _W: "semaine semaines", _M: "mois", _Y: "an ans annee annees"}),
        "period": words_for({_W: "semaine", _M: "mois", _Y: "an annee", _NIGHT: "nuit", _WEEKEND: "week-end weekend"}),
        "back": {"derniere": 1, "dernier": 1, "passee": 1, "passe": 1},
        "weeksback": spelled("cette_semaine|la_semaine_derniere la_semaine_passee", 0),
        "yearsback": spelled("cette_annee|l'annee_derniere l'annee_passee l'an_dernier l'an_passe", 0),
        "daysback": spelled(
            "aujourd'hui ce_matin ce_midi ce_soir cet_apres-midi cette_apres-midi cette_nuit|hier|"
            "avant-hier avant_hier",
            0,
        ),
        "day": {"1er": 1, "premier": 1},
    },
    phrases=(
        Phrase(calendar, r"\b<day> (?:<month>|<short>)\.?,? <year>\b"),
        Phrase(calendar, r"\b(?:<month>|<short>)\.?,? (?:de )?<year>\b"),
        Phrase(calendar, r"\b<season>,? (?:de )?<year>\b"),
        Phrase(calendar, r"\b(?:<day> )?<month>,? (?:de )?<yearsback>\b"),
        # "où ai-je été l'an dernier" is no summer
        Phrase(calendar, r"\b<season> de <yearsback>\b"),
        Phrase(calendar, r"\b<yearsback>,? (?:en |au )(?:mois de )?(?:<month>|<season>)\b"),
        # and 2 mars are bars of chocolate
        Phrase(calendar, r"\b<day> <month>\b(?<! mars)"),
        Phrase(calendar, r"\b<day> mars\b", {"month": 3}, unsure=True),
        Phrase(ago, r"\b(?:y a|voila|voici) huit jours\b", WEEK_AGO),
        Phrase(ago, r"\b(?:y a|voila|voici) (?:quinze|15|une quinzaine de) jours\b", FORTNIGHT_AGO),
        Phrase(ago, r"\b(?:y a|voila|voici) (?:environ )?<count> <unit>\b"),
        Phrase(past, r"\b<count> (?:derniers|dernieres) <unit>\b"),
        Phrase(weekday, r"\b<weekday>,? (?:de )?<weeksback>\b"),
        Phrase(weekday, r"\b<weeksback>,? (?:le )?<weekday>\b"),
        Phrase(weekday, r"\b<weekday> (?:dernier|passe)\b", LAST),
        # Mardi Gras, and "le vendredi" is on Fridays
        Phrase(
            weekday,
            rf"(?<!\ble )(?<!\bles )(?<!\bdu )(?<!\bchaque )\b<weekday>\b(?! prochain| gras){_NO_DATE}",
            unsure=True,
        ),
        Phrase(some_day, r"\bavant[- ]hier\b", {"daysback": 2}),
        Phrase(some_day, r"\bhier (?:soir|matin|midi|apres-midi)\b", {"daysback": 1}),
        # "hier" is "here" in German and Dutch
        Phrase(some_day, r"\bhier\b", {"daysback": 1}, unsure=True),
        Phrase(some_day, r"\b<daysback>\b(?<!hier)"),
        Phrase(period, r"\b<period> <back>\b"),
        Phrase(period, r"\bdernier <period>\b(?<=end)", {"back": 1}),
        Phrase(period, r"\b(?:cette|ce) <period>\b"),
        Phrase(period, r"\b(?:le|du|pendant le) <period>\b(?<=end)(?! prochain)"),
        Phrase(calendar, r"\b<month> dernier\b", LAST),
        Phrase(calendar, r"\b(?:en|mois de|depuis|debut|fin|courant|avant|apres|mi)[ -](?:debut |fin )?<month>\b"),
        Phrase(calendar, r"\b<season> (?:dernier|passe)\b"),
        Phrase(calendar, r"\b(?:cet|ce|en|au|pendant l'|durant l') ?<season>\b"),
    ),
    common=(
        "je j ai tu as il elle on nous vous ils elles est etait sont ont avons avez le la les l un une du des "
        "de au aux et ou mais que qu qui quoi quel quelle quels quelles ce cet cette ces c ne pas mon ma mes "
        "ton ta tes son sa ses notre nos votre avec dans sur pour chez en comment quand pourquoi combien fait "
        "depuis encore " + ACCENT
    ),
)

SPANISH = Language(
    words={
        "month": spelled(
            "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre setiembre|octubre|noviembre|diciembre"
        ),
        "short": spelled("ene|feb|mar|abr|may|jun|jul|ago|sep sept set|oct|nov|dic"),
        "weekday": spelled("lunes|martes|miercoles|jueves|viernes|sabado|domingo", 0),
        "season": {"invierno": 12, "primavera": 3, "verano": 6, "otono": 9},
        "count": spelled(
            "un una|dos un_par_de|tres unos unas|cuatro varios varias|cinco|seis|siete|ocho|nueve|diez|once|doce"
        ),
        "unit": words_for({_D: "dia dias", _W: "semana semanas", _M: "mes meses", _Y: "ano anos"}),
        "period": words_for({_W: "semana", _M: "mes", _Y: "ano", _NIGHT: "noche", _WEEKEND: "fin_de_semana finde"}),
        "weeksback": spelled("esta_semana|la_semana_pasada la_pasada_semana", 0),
        "yearsback": spelled("este_ano|el_ano_pasado el_pasado_ano del_ano_pasado del_pasado_ano", 0),
        "daysback": spelled(
            "hoy esta_manana esta_tarde esta_noche|ayer anoche|anteayer antes_de_ayer antier anteanoche", 0
        ),
        "day": {"primero": 1, "1ro": 1, "1o": 1},
    },
    phrases=(
        Phrase(calendar, r"\b<day> (?:de )?(?:<month>|<short>)\.?,? (?:de |del )?<year>\b"),
        Phrase(calendar, r"\b(?:<month>,?(?: de| del)?|<short>\.? de) <year>\b"),
        Phrase(calendar, r"\b<season>,? (?:de |del )?<year>\b"),
        Phrase(calendar, r"\b(?:(?:<day> (?:de )?)?<month>|<season>),? (?:de )?<yearsback>\b"),
        Phrase(calendar, r"\b<yearsback>,? en (?:el |la )?(?:mes de )?(?:<month>|<season>)\b"),
        Phrase(calendar, r"\b<day> (?:de )?<month>\b"),
        Phrase(ago, r"\b(?:hace|ha) (?:quince|15) dias\b", FORTNIGHT_AGO),
        Phrase(ago, r"\b(?:hace|ha) (?:unos |unas |ya |como |casi )?<count> <unit>\b"),
        Phrase(ago, r"\b<count> <unit> atras\b"),
        Phrase(past, r"\b(?:ultimos|ultimas) <count> <unit>\b"),
        Phrase(past, r"\b<count> (?:ultimos|ultimas) <unit>\b"),
        Phrase(past, r"\b(?:ultimo|ultima) <unit>\b(?<! dia)", _ONE),
        Phrase(weekday, r"\b<weekday>,? (?:de )?<weeksback>\b"),
        Phrase(weekday, r"\b<weeksback>,? (?:el )?<weekday>\b"),
        Phrase(weekday, r"\b<weekday> pasado\b", LAST),
        Phrase(weekday, r"\b(?:pasado|ultimo) <weekday>\b", LAST),
        Phrase(weekday, rf"\b(?:el|del|este|desde el) <weekday>\b(?! proximo| que viene){_NO_DATE}"),
        Phrase(period, r"\b(?:anoche|ayer por la noche|ayer en la noche)\b", LAST_NIGHT),
        Phrase(period, r"\b<period> (?:pasada|pasado)\b", {"back": 1}),
        Phrase(period, r"\b(?:pasada|pasado) <period>\b", {"back": 1}),
        Phrase(some_day, r"\bantes de ayer\b", {"daysback": 2}),
        # A. J. Ayer
        Phrase(some_day, r"\bayer\b", {"daysback": 1}, unsure=True),
        Phrase(some_day, r"\b<daysback>\b(?<!\bayer)"),
        Phrase(period, r"\b(?:esta|este) <period>\b"),
        Phrase(period, r"\b(?:el|del|durante el) <period>\b(?:(?<=fin de semana)|(?<=finde))(?! proximo| que viene)"),
        Phrase(calendar, r"\b<month> pasado\b", LAST),
        Phrase(calendar, r"\bpasado <month>\b", LAST),
        Phrase(
            calendar,
            r"\b(?:en|desde|hasta|este|mes de|(?:inicios|principios|comienzos|mediados|finales|fines) de) <month>\b",
        ),
        Phrase(calendar, r"\b<season> (?:pasado|pasada)\b"),
        Phrase(calendar, r"\b(?:en|en el|en la|este|esta|pasado|pasada) <season>\b"),
    ),
    common=(
        "el la los las un una de del que y o en con por para es era fue mi mis tu su yo he ha comi cene "
        "cuando donde quien como cual me te se le lo no ayer antes dije hice hicimos"
    ),
)

PORTUGUESE = Language(
    words={
        "month": spelled(
            "janeiro|fevereiro|março marco|abril|maio|junho|julho|agosto|setembro|outubro|novembro|dezembro"
        ),
        "short": spelled("jan|fev|mar|abr|mai|jun|jul|ago|set|out|nov|dez"),
        "weekday": spelled(
            "segunda-feira segunda_feira segunda|terça-feira terca-feira terça_feira terca_feira terça terca|"
            "quarta-feira quarta_feira quarta|quinta-feira quinta_feira quinta|sexta-feira sexta_feira sexta|"
            "sabado|domingo",
            0,
        ),
        "season": {"inverno": 12, "primavera": 3, "verao": 6, "outono": 9},
        "count": spelled(
            "um uma|dois duas|tres alguns algumas uns umas|quatro varios varias|cinco|seis|sete|oito|nove|dez|onze|doze"
        ),
        "unit": words_for({_D: "dia dias", _W: "semana semanas", _M: "mes meses", _Y: "ano anos"}),
        "period": words_for(
            {
                **{_W: "semana", _M: "mes", _Y: "ano", _NIGHT: "noite"},
                _WEEKEND: "fim_de_semana final_de_semana fim-de-semana",
            }
        ),
        "weeksback": spelled("esta_semana desta_semana|a_semana_passada na_semana_passada da_semana_passada", 0),
        "yearsback": spelled("este_ano deste_ano neste_ano|o_ano_passado no_ano_passado do_ano_passado", 0),
        "daysback": spelled(
            "hoje esta_manha nesta_manha esta_tarde nesta_tarde esta_noite nesta_noite|ontem|anteontem antes_de_ontem",
            0,
        ),
        "day": {"primeiro": 1, "1o": 1},
    },
    phrases=(
        Phrase(calendar, r"\b<day> (?:de )?(?:<month>|<short>)\.?,? (?:de )?<year>\b"),
        Phrase(calendar, r"\b(?:<month>,?(?: de)?|<short>\.? de) <year>\b"),
        Phrase(calendar, r"\b<season>,? (?:de )?<year>\b"),
        Phrase(calendar, r"\b(?:(?:<day> (?:de )?)?<month>|<season>),? <yearsback>\b"),
        Phrase(calendar, r"\b<yearsback>,? (?:em|no|na) (?:mes de )?(?:<month>|<season>)\b"),
        Phrase(calendar, r"\b<day> (?:de )?<month>\b"),
        Phrase(ago, r"\b(?:ha|faz) (?:quinze|15) dias\b", FORTNIGHT_AGO),
        Phrase(ago, r"\b(?:ha|faz) (?:cerca de |quase |ja )?<count> <unit>\b"),
        Phrase(ago, r"\b<count> <unit> atras\b"),
        Phrase(past, r"\b(?:ultimos|ultimas) <count> <unit>\b"),
        Phrase(past, r"\b<count> (?:ultimos|ultimas) <unit>\b"),
        Phrase(past, r"\b(?:ultimo|ultima) <unit>\b(?<! dia)", _ONE),
        Phrase(weekday, r"\b<weekday>,? <weeksback>\b"),
        Phrase(weekday, r"\b<weeksback>,? (?:na |no )?<weekday>\b"),
        Phrase(weekday, r"\b<weekday> (?:passada|passado)\b", LAST),
        Phrase(
            weekday, r"\b(?:passada|passado|ultima|ultimo) <weekday>\b(?:(?<=feira)|(?<=sabado)|(?<=domingo))", LAST
        ),
        # "na segunda vez" is the second time
        Phrase(
            weekday,
            r"\b(?:na|no|nesta|neste|desde) <weekday>\b(?! que vem| proxim)"
            rf"(?:(?<=feira)|(?<=sabado)|(?<=domingo)|(?= a noite| a tarde| de manha| ?[?.!,;]|$)){_NO_DATE}",
        ),
        Phrase(period, r"\bontem a noite\b", LAST_NIGHT),
        Phrase(some_day, r"\b<daysback>\b"),
        Phrase(period, r"\b<period> (?:passada|passado)\b", {"back": 1}),
        Phrase(period, r"\b(?:passada|passado) <period>\b", {"back": 1}),
        Phrase(period, r"\b(?:[nd]?est[ae]|[nd]?ess[ae]) <period>\b"),
        Phrase(period, r"\b(?:no|do) <period>\b(?<=de.semana)(?! que vem| proxim)"),
        Phrase(calendar, r"\b<month> passado\b", LAST),
        Phrase(calendar, r"\bpassado <month>\b", LAST),
        # and Marco has a name
        Phrase(
            calendar,
            r"\b(?:em|desde|ate|mes de|(?:inicio|começo|comeco|meados|fim|final) de) <month>\b(?<!marco)",
        ),
        Phrase(calendar, r"\b<season> passad[oa]\b"),
        Phrase(calendar, r"\b(?:no|na|[nd]?est[ae]|durante [oa]) <season>\b"),
    ),
    common=(
        "o os as um uma do da dos das no na nos nas que e em com por para foi era meu minha eu voce quando "
        "onde quem como qual me nao ontem hoje"
    ),
)
