"""What secrets look like: keys that announce them, addresses that hold them, tokens that are known by their shape.

A repetition without an end is possessive (``++``), one that is not has an end: no pattern looks at a character more than a fixed
number of times. ``tests/core/health/test_redact.py`` holds every pattern of this module to that.
"""

from __future__ import annotations

import re
from itertools import pairwise

_SEPARATOR = r"[ _.\-]?"

KEYS = re.compile(
    rf"(?P<header>(?:proxy-)?authorization|(?:set-)?cookies?(?![a-z]))"
    rf"|(?P<password>pass(?:word|wd|phrase|code)s?|kennwort|mot{_SEPARATOR}de{_SEPARATOR}passe|contrase.a)"
    rf"|(?P<strong>secrets?|tokens?|pwd|credentials?|creds|bearer|jwt"
    rf"|(?:api|app|access|account|secret|private|encryption|signing|signature|master|shared|storage|license|licence|ssh|session|hmac"
    rf"|aes|rsa|webhook|deploy|service|master|root|admin|auth|routing|integration|ingest|write|instrumentation){_SEPARATOR}keys?"
    rf"|shared{_SEPARATOR}access{_SEPARATOR}(?:key|signature)|signatures?|x-amz-[a-z\-]{{1,30}}|x-goog-[a-z\-]{{1,30}}"
    rf"|(?:php|j)?sess(?:ion)?{_SEPARATOR}id|conn(?:ection)?{_SEPARATOR}str(?:ing)?|(?:database|db|redis|mongo(?:db)?|amqp|broker)_ur[il]"
    rf"|webhook{_SEPARATOR}ur[il]|_auth|mnemonic|seed{_SEPARATOR}phrase|dockerconfigjson|kubeconfig)"
    rf"|(?P<short>pass|pw|psk|auth|otp|dsn|sas|pgpassfile|mysql_pwd)"
    rf"|(?P<weak>keys?|sig|code|hash|nonce|salt|state|session|sid|seed|cert|ticket|assertion|pat|license)"
)
"""Searched in the text with ASCII in lower case. ``weak`` and ``short`` ones count as words of their own; a ``weak`` one only
announces what is random."""

_LOGIN_BY_FLAG = r"sshpass|mysql\w{0,20}|redis-cli|ldap\w{1,20}|mongo\w{0,20}|sqlcmd|docker login"
"""Programs that take a password behind a single letter."""

ADDRESSES = tuple(
    (needle, re.compile(pattern))
    for needle, pattern in (
        # scheme://user:password@host; a number up to a slash is a port
        ("://", r"(://(?:[^\s:/@?#\"'<>]{0,128}+:))(?!\d{1,5}(?:[/?#\s\"'<>)\],;]|$))(?!\[redacted\]@)[^\s\"'<>]{1,256}(?=@)"),
        ("://", r"(://)(?!\[redacted\]@)[^\s:/@?#\"'<>\[]{16,256}(?=@)"),
        # user:password@tcp(host:3306)/db, oracle:thin:user/password@host, login user password secret
        ("@", r"((?<![^\s\"'=(])[^\s:/@\"'=]{1,64}:)(?!\[redacted\]@)[^\s\"'<>]{1,128}(?=@(?:tcp|udp|unix)\()"),
        ("oracle:", r"(oracle:\w{1,8}:[^\s/\"']{1,64}/)(?!\[redacted\]@)[^\s\"'<>@]{1,128}(?=@)"),
        (" password", r"((?i:login|user) {1,4}[^\s]{1,64} {1,4}(?i:password) {1,4})(?!\[redacted\])[^\s]++"),
        # curl -u user:password
        ("-u", r"((?<![\w-])(?:-u|--user|--proxy-user)[ =]{1,4}[\"']?[^\s:\"']{1,64}:)(?!\[redacted\])[^\s]++"),
        (" -", rf"((?<![\w-])(?:{_LOGIN_BY_FLAG})(?: [^\n]{{0,80}})? -[apPwW] ?)(?!\[redacted\])[^\s\-]\S*+"),
        ("hooks.slack.com", r"((?i:hooks\.slack\.com)/[a-z]{1,20}/)(?!\[redacted\])[\w/\-]++"),
        ("discord", r"((?i:discord(?:app)?\.com/api)/(?:v\d{1,3}/)?webhooks/)(?!\[redacted\])[\w/\-]++"),
        (
            ".com",
            r"((?i:[\w.\-]{0,60}webhook\.office\.com|[\w.\-]{0,60}logic\.azure\.com(?::\d{1,5})?)/)(?!\[redacted\])[^\s\"'<>]++",
        ),
        ("api.telegram.org", r"((?i:api\.telegram\.org)/)(?!\[redacted\])[^\s\"'<>/]++"),
        ("=", r"([?&](?i:code|key|auth|access|sig|state|ticket|assertion|token|pass|pw)=)(?!\[redacted\])[^\s&\"'<>]++"),
        # a scheme of HTTP's and its credentials
        *(
            (scheme, rf"((?i:{scheme}) {{1,4}})(?!\[redacted\])(?=[\w.~+/\-]{{0,64}}[A-Z0-9=])[\w.~+/\-]{{8,}}+={{0,3}}")
            for scheme in ("bearer", "basic", "digest", "negotiate", "ntlm", "token", "apikey")
        ),
        ("bearer", r"((?i:bearer) {1,4})[a-z._~+/\-]{20,}+"),
    )
)
"""What stands behind the first group is hidden, up to what stands behind the match. The texts before the patterns are quickly looked for:
without one, in ASCII lower case, its pattern finds nothing."""

RUN = re.compile(r"[A-Za-z0-9_+/=.~$:,\-]{12,}+")
"""Runs of characters in which tokens are looked for; most words of a log are shorter."""

_PLAIN = (  # so much like nothing else that they may stand anywhere
    r"eyJ[A-Za-z0-9_\-]{14,}+(?:\.[A-Za-z0-9_\-]*+){0,4}",  # JWT, JWE, and any JSON object in base64
    r"gh[pousr]_[A-Za-z0-9]{20,}+",
    r"github_pat_\w{20,}+",
    r"gl(?:pat|dt|rt|ptt|oas|cbt|agent|soat|ft|imt|ffct)-[\w\-]{16,}+",
    r"xox[abceoprs]-[\w\-]{10,}+",
    r"xapp-[\w\-]{10,}+",
    r"AIza[\w\-]{30,}+",
    r"GOCSPX-[\w\-]{20,}+",
    r"ATATT3[\w=\-]{20,}+",
    r"ATBB[A-Za-z0-9]{24,}+",
    r"dckr_(?:pat|oat)_[\w\-]{20,}+",
    r"npm_[A-Za-z0-9]{30,}+",
    r"pypi-AgE[\w\-]{30,}+",
    r"rubygems_[0-9a-f]{40,}+",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{30,}+",
    r"do[opr]_v1_[0-9a-f]{40,}+",
    r"gls[ac]_[\w]{20,}+|glc_[\w+/=]{20,}+",
    r"lin_api_\w{30,}+",
    r"AGE-SECRET-KEY-1[A-Z0-9]{30,}+",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}+",
    r"whsec_[\w+/=]{16,}+",
    r"SG\.[\w\-]{16,}+\.[\w\-]{16,}+",
    r"\.atlasv1\.[\w\-]{40,}+",
    r"\$(?:2[abxy]|[156y]|argon2(?:id|[id]))\$[./A-Za-z0-9$,=+\-]{20,}+",
    r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[\w+/=\-]{20,}+",
)
_WORDS = (  # these begin a word
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}+",
    r"ya29\.[\w\-]{20,}+",
    r"1//0[\w\-]{30,}+",
    r"sk-(?=[A-Za-z0-9_\-]{0,80}[0-9A-Z])[A-Za-z0-9_\-]{20,}+",
    r"hf_[A-Za-z0-9]{25,}+",
    r"r8_[A-Za-z0-9]{30,}+",
    r"hv[sbr]\.[\w\-]{20,}+",
    r"s\.[A-Za-z0-9]{24}(?![A-Za-z0-9])",
    r"dapi[0-9a-f]{32}",
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9.]{30,}+",
    r"key-[0-9a-f]{32}",
    r"SK[0-9a-f]{32}",
    r"NRAK-[A-Z0-9]{20,}+",
    r"PMAK-[0-9a-f\-]{40,}+",
    r"sq0(?:atp|csp|idp)-[\w\-]{20,}+",
    r"[0-9a-f]{32}-us\d{1,2}",
    r"\d{8,10}:AA[\w\-]{30,}+",
    r"[\w~.\-]{3}\dQ~[\w~.\-]{28,}+",
    r"[a-z0-9]{6}\.(?=[a-z]{0,15}\d)[a-z0-9]{16}(?![a-z0-9.])",  # kubeadm's bootstrap token
)
SHAPES = re.compile(f"{'|'.join(_PLAIN)}|(?<![A-Za-z0-9])(?:{'|'.join(_WORDS)})")

DENSE = re.compile(r"[A-Za-z0-9+/_\-]{32,}+={0,3}")

_DENSE_MIN = 0.4
_RANDOM_LENGTH, _RANDOM_MIN = 12, 0.2


def is_dense(token: str) -> bool:
    """Whether it looks like random base64: upper and lower case and digits, changing from one to the next all the time.

    Of random characters 62 % are followed by one of another class; of words in camel case, about 30 %.
    """
    changes, kinds, _ = _changes(token)
    return kinds == 3 and changes >= _DENSE_MIN  # noqa: PLR2004 - upper, lower, digit


def is_random(value: str) -> bool:
    """Whether what stands behind a key that may announce a secret looks like one: letters and digits in no order."""
    changes, kinds, digits = _changes(value)
    return sum(map(str.isalnum, value)) >= _RANDOM_LENGTH and kinds >= 2 and digits > 0 and changes >= _RANDOM_MIN  # noqa: PLR2004 - two of three


def _changes(token: str) -> tuple[float, int, int]:
    """The share of neighbours of different classes, how many classes there are, and digits; of ASCII letters and digits alone."""
    classes = ["d" if char.isdigit() else "u" if char.isupper() else "l" for char in token if char.isalnum() and char.isascii()]
    changes = sum(one != other for one, other in pairwise(classes))
    return changes / max(1, len(classes) - 1), len(set(classes)), classes.count("d")
