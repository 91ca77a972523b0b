"""URLs: every form people have is understood, what could mean two things is refused, and the SAS is never shown."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from azstoragetorch._values.url import BlobUrl, ContainerUrl

CANARY = "CaNaRy%2Fsecret%3D"
SAS = f"sv=2025-01-05&ss=b&se=2030-01-01T00%3A00%3A00Z&sp=rl&sig={CANARY}"
ACCOUNT = "https://acct.blob.core.windows.net"
EMULATOR = "http://127.0.0.1:10000/devstoreaccount1"


def is_blob_name(name: str) -> bool:
    return not any(segment in (".", "..") for segment in name.split("/")) and "sig=" not in name.lower()


names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.text("ab/.%+#?&=~ é\n\\:@$", min_size=1, max_size=30),
).filter(is_blob_name)
containers = st.from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True) | st.sampled_from(["$root", "$web", "$logs"])
containers = containers.filter(lambda name: not name.startswith("devstoreaccount1"))
endpoints = st.sampled_from(
    [
        ACCOUNT,
        "https://acct-secondary.blob.core.windows.net",
        "https://acct.blob.core.chinacloudapi.cn",
        "https://acct.blob.core.usgovcloudapi.net",
        "https://acct.z12.blob.storage.azure.net",
        "https://acct.privatelink.blob.core.windows.net",
        "https://data.example.com",
        "https://data.example.com:8443",
        EMULATOR,
        "http://127.0.0.1:10000/devstoreaccount1-secondary",
        "http://localhost:10000/devstoreaccount1",
        "https://[::1]:10000/devstoreaccount1",
        "http://azurite:10000/devstoreaccount1",
        "http://10.0.0.7/someaccount",
    ]
)
qualifiers = st.sampled_from([{}, {"snapshot": "2025-06-01T10:20:30.1234567Z"}, {"version_id": "2025-06-01T10:20:30Z"}])


@given(endpoints, containers, names, qualifiers)
def test_url_round_trip(endpoint: str, container: str, name: str, qualifier: dict[str, str]) -> None:
    """What is printed, logged or stored in a manifest leads back to the same blob, whatever its name holds."""
    blob = dataclasses.replace(ContainerUrl.parse(f"{endpoint}/{container}").blob(name), **qualifier)

    assert (blob.endpoint, blob.container, blob.name) == (endpoint, container, name)
    assert BlobUrl.parse(blob.request_url) == blob
    assert BlobUrl.parse(blob.url) == dataclasses.replace(blob, snapshot=None, version_id=None)
    assert BlobUrl.parse(f"{blob.url}?{SAS}").sas == SAS
    assert blob.url == f"{endpoint}/{container}/{quote(name, safe='/~')}"
    assert blob.url.isascii()
    assert pickle.loads(pickle.dumps(blob)) == copy.copy(blob) == blob


@given(names)
def test_any_percent_encoding_of_a_name_is_the_same_blob(name: str) -> None:
    """Tools differ in what they encode; the blob does not."""
    everything_encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    as_few_as_possible = "".join(c if c not in "%?#" and c >= " " and c != "\x7f" else quote(c) for c in name)

    assert BlobUrl.parse(f"{ACCOUNT}/data/{everything_encoded}").name == name
    assume(as_few_as_possible == as_few_as_possible.strip())
    assert BlobUrl.parse(f"{ACCOUNT}/data/{as_few_as_possible}").name == name


def parse_or_error(kind: type[BlobUrl] | type[ContainerUrl], text: str) -> BlobUrl | ContainerUrl | ValueError:
    try:
        return kind.parse(text)
    except ValueError as error:
        return error


@given(st.text(max_size=80) | st.from_regex(r"(https?://[a-z.:@\[\]0-9]{0,20}/)?[ -~]{0,60}", fullmatch=True))
def test_any_text_is_understood_or_refused_with_value_error(text: str) -> None:
    """Whatever a configuration file holds, the answer is a URL that stays the same or one kind of error."""
    for kind in (BlobUrl, ContainerUrl):
        outcome = parse_or_error(kind, text)
        if isinstance(outcome, ValueError):
            assert type(outcome) is ValueError
        else:
            query = f"{'&' if '?' in str(outcome) else '?'}{outcome.sas}" if outcome.sas else ""
            assert kind.parse(f"{outcome}{query}") == outcome


ACCEPTED = [
    (f"{ACCOUNT}/data/a.bin", (ACCOUNT, "data", "a.bin")),
    ("HTTPS://ACCT.Blob.Core.Windows.NET:443/data/A.bin", (ACCOUNT, "data", "A.bin")),
    ("http://data.example.com:80/data/a", ("http://data.example.com", "data", "a")),
    (f"{ACCOUNT}/data/dir/sub/a.bin", (ACCOUNT, "data", "dir/sub/a.bin")),
    (f"{ACCOUNT}/data/dir/", (ACCOUNT, "data", "dir/")),
    (f"{ACCOUNT}/data//dir//a/", (ACCOUNT, "data", "/dir//a/")),
    (f"{ACCOUNT}/data/a%2Fb", (ACCOUNT, "data", "a/b")),
    (f"{ACCOUNT}/data/a+b", (ACCOUNT, "data", "a+b")),
    (f"{ACCOUNT}/data/a%2Bb%20c", (ACCOUNT, "data", "a+b c")),
    (f"{ACCOUNT}/data/a b", (ACCOUNT, "data", "a b")),
    (f"{ACCOUNT}/data/100%25", (ACCOUNT, "data", "100%")),
    (f"{ACCOUNT}/data/a%2520b", (ACCOUNT, "data", "a%20b")),
    (f"{ACCOUNT}/data/a%23b%3Fc", (ACCOUNT, "data", "a#b?c")),
    (f"{ACCOUNT}/data/line%0Abreak", (ACCOUNT, "data", "line\nbreak")),
    (f"{ACCOUNT}/data/ünïcödé/模型.pt", (ACCOUNT, "data", "ünïcödé/模型.pt")),
    (f"{ACCOUNT}/data/%E6%A8%A1", (ACCOUNT, "data", "模")),
    (f"{ACCOUNT}/data/user@example.com", (ACCOUNT, "data", "user@example.com")),
    (f"{ACCOUNT}/data/a.b./...", (ACCOUNT, "data", "a.b./...")),
    (f"{ACCOUNT}/data/back\\slash", (ACCOUNT, "data", "back\\slash")),
    (f"{ACCOUNT}/data/{'n' * 1024}", (ACCOUNT, "data", "n" * 1024)),
    (f"{ACCOUNT}/a.bin", (ACCOUNT, "$root", "a.bin")),
    (f"{ACCOUNT}/$root/a.bin", (ACCOUNT, "$root", "a.bin")),
    (f"{ACCOUNT}/%24root/a.bin", (ACCOUNT, "$root", "a.bin")),
    (f"{ACCOUNT}/$web/index.html", (ACCOUNT, "$web", "index.html")),
    (f"{EMULATOR}/data/a.bin", (EMULATOR, "data", "a.bin")),
    (f"{EMULATOR}/$root/a.bin", (EMULATOR, "$root", "a.bin")),
    ("http://[::1]:10000/acct1/data/a", ("http://[::1]:10000/acct1", "data", "a")),
    ("http://azurite/devstoreaccount1/data/a", ("http://azurite/devstoreaccount1", "data", "a")),
    ("https://data.example.com/data/dir/a", ("https://data.example.com", "data", "dir/a")),
]


@pytest.mark.parametrize(("url", "expected"), ACCEPTED)
def test_blob_url_is_taken_apart(url: str, expected: tuple[str, str, str]) -> None:
    """The forms that portals, tools, emulators and people produce."""
    blob = BlobUrl.parse(url)

    assert (blob.endpoint, blob.container, blob.name) == expected
    assert (blob.snapshot, blob.version_id, blob.sas) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (None, None, None)),
        ("&", (None, None, None)),
        (SAS, (None, None, SAS)),
        ("snapshot=2025-06-01T10%3A20%3A30.1234567Z", ("2025-06-01T10:20:30.1234567Z", None, None)),
        ("SnapShot=2025-06-01T10:20:30.1234567Z", ("2025-06-01T10:20:30.1234567Z", None, None)),
        ("versionId=2025-06-01T10%3a20%3a30Z", (None, "2025-06-01T10:20:30Z", None)),
        (f"versionid=v1&{SAS}", (None, "v1", SAS)),
        (f"sv=1&snapshot=s1&sp=r&sig={CANARY}&se=2", ("s1", None, f"sv=1&sp=r&sig={CANARY}&se=2")),
        ("sv=1&sig=a+b/c==&rscd=x%20y", (None, None, "sv=1&sig=a+b/c==&rscd=x%20y")),
        ("SV=1&SIG=x", (None, None, "SV=1&SIG=x")),
        ("skoid=1&sktid=2&skt=3&ske=4&sks=b&skv=5&sdd=1&sduoid=7&sig=x", None),
    ],
)
def test_query_is_snapshot_or_version_and_the_unchanged_sas(
    query: str, expected: tuple[str | None, str | None, str | None] | None
) -> None:
    """A signature does not survive to be decoded and encoded again, and a snapshot must reach the wire."""
    blob = BlobUrl.parse(f"{ACCOUNT}/data/a?{query}")

    assert (blob.snapshot, blob.version_id, blob.sas) == (expected or (None, None, query))
    assert blob.url == f"{ACCOUNT}/data/a"


def test_request_url_carries_snapshot_and_version() -> None:
    """0.2.0 dropped the version and read the current content."""
    assert BlobUrl.parse(f"{ACCOUNT}/data/a?snapshot=1:2&{SAS}").request_url == f"{ACCOUNT}/data/a?snapshot=1%3A2"
    assert BlobUrl.parse(f"{ACCOUNT}/data/a?versionid=1:2&{SAS}").request_url == f"{ACCOUNT}/data/a?versionid=1%3A2"
    assert BlobUrl.parse(f"{ACCOUNT}/data/a?{SAS}").request_url == f"{ACCOUNT}/data/a"


REFUSED = [
    ("", "must start with https://"),
    ("acct.blob.core.windows.net/data/a", "must start with https://"),
    ("ftp://acct.blob.core.windows.net/data/a", "must start with https://"),
    ("az://data/a", "must start with https://"),
    ("https:/acct.blob.core.windows.net/data/a", "must start with https://"),
    ("https:///data/a", "no valid host"),
    ("https://ac ct.blob.core.windows.net/data/a", "no valid host"),
    ("https://acct\\.evil.com/data/a", "no valid host"),
    ("https://ac%63t.blob.core.windows.net/data/a", "no valid host"),
    ("https://äcct.blob.core.windows.net/data/a", "no valid host"),
    ("https://acct..net/data/a", "no valid host"),
    (f"https://{'a' * 64}.blob.core.windows.net/data/a", "at most 63 between two dots"),
    (f"https://{'a.' * 127}a/data/a", "at most 253 characters"),
    ("https://[::1/data/a", "no valid host"),
    ("https://[1:2]/acct/data/a", "no valid host"),
    ("https://h:/data/a", "no valid host"),
    ("https://h:8a/data/a", "no valid host"),
    ("https://h:0/data/a", "port"),
    ("https://h:65536/data/a", "port"),
    ("https://user@h/data/a", "user information"),
    ("https://user:CaNaRy@h/data/a", "user information"),
    ("https://user:CaNaRy?x@h/data/a", "user information"),
    ("https://user:CaNaRy#x@h/data/a", "user information"),
    (f"{ACCOUNT}/data/a#b", "%23"),
    (f"{ACCOUNT}/data/a?{SAS}#b", "fragment"),
    (f"{ACCOUNT}/data/a\nb", "control character"),
    (f"{ACCOUNT}/data/a\x00", "control character"),
    (f" {ACCOUNT}/data/a", "whitespace"),
    (f"{ACCOUNT}/data/a ", "whitespace"),
    (f"{ACCOUNT}/data/100%", "%25"),
    (f"{ACCOUNT}/data/%zz", "%25"),
    (f"{ACCOUNT}/data/%E6%A8", "UTF-8"),
    (f"{ACCOUNT}/data/\ud800", "surrogate"),
    (f"{ACCOUNT}/data/../a", "segment"),
    (f"{ACCOUNT}/data/./a", "segment"),
    (f"{ACCOUNT}/data/a/..", "segment"),
    (f"{ACCOUNT}/data/%2e%2E/a", "segment"),
    (f"{ACCOUNT}/data/x%2F..%2Fa", "segment"),
    (f"{ACCOUNT}/../data/a", "container name"),
    (f"{ACCOUNT}/%2e%2e/data/a", "container name"),
    ("http://127.0.0.1:10000/../data/a", "start with an account"),
    (ACCOUNT, "names no container"),
    (f"{ACCOUNT}/", "names no container"),
    (f"{ACCOUNT}//a", "names no container"),
    (f"{ACCOUNT}/data/", "container URL; add a blob name"),
    ("https://data.example.com/data", "container URL; add a blob name"),
    (f"{EMULATOR}/data", "container URL; add a blob name"),
    (EMULATOR, "names no container"),
    ("http://127.0.0.1:10000", "start with an account"),
    (f"{ACCOUNT}/Data/a", "container name"),
    (f"{ACCOUNT}/da/a", "container name"),
    (f"{ACCOUNT}/-data/a", "container name"),
    (f"{ACCOUNT}/{'d' * 64}/a", "container name"),
    (f"{ACCOUNT}/da_ta/a", "container name"),
    (f"{ACCOUNT}/data%2Fx/a", "container name"),
    (f"{ACCOUNT}/data/{'n' * 1025}", "1024"),
    (f"{ACCOUNT}/data/a%3F{SAS}", "plain ?"),
    (f"{ACCOUNT}/data/a%3F{quote(SAS, safe='')}", "plain ?"),
    (f"{ACCOUNT}/data/a&{SAS}", "plain ?"),
    ("https://acct.dfs.core.windows.net/data/a", "acct.blob.core.windows.net"),
    ("https://acct.z1.dfs.storage.azure.net/data/a", "acct.z1.blob.storage.azure.net"),
    (f"{ACCOUNT}/data/a?comp=CaNaRy", "'comp'"),
    (f"{ACCOUNT}/data/a?comp=CaNaRy&{SAS}", "'comp'"),
    (f"{ACCOUNT}/data/a?{SAS}&restype=container", "'restype'"),
    (f"{ACCOUNT}/data/a?{SAS}&timeout=1", "'timeout'"),
    (f"{ACCOUNT}/data/a?sv=CaNaRy", "no sig="),
    (f"{ACCOUNT}/data/a?CaNaRy%2Fsecret%3D", "not shown here"),
    (f"{ACCOUNT}/data/a?CaNaRyCaNaRyCaNaRyCaNaRy", "not shown here"),
    (f"{ACCOUNT}/data/a?s%69g=CaNaRy", "not shown here"),
    (f"{ACCOUNT}/data/a?sv=1&sig=", "empty sig="),
    (f"{ACCOUNT}/data/a?sv=1&sig", "empty sig="),
    (f"{ACCOUNT}/data/a?sig=CaNaRy&SIG=CaNaRy2", "twice"),
    (f"{ACCOUNT}/data/a?snapshot=1&snapshot=2", "twice"),
    (f"{ACCOUNT}/data/a?snapshot=1&versionid=2", "not both"),
    (f"{ACCOUNT}/data/a?snapshot=", "no usable value"),
    (f"{ACCOUNT}/data/a?versionid=%0a", "no usable value"),
    (f"{ACCOUNT}/data/a?sig=CaNaRy%2", "query"),
    (f"{ACCOUNT}/data/a?sig=CaNaRy secret", "query"),
    (f"{ACCOUNT}/data/a?sig=CaNaRyé", "query"),
]


@pytest.mark.parametrize(("url", "words"), REFUSED)
def test_blob_url_is_refused_and_its_secret_not_shown(url: str, words: str) -> None:
    """The message says what to change; people paste it into issues."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        BlobUrl.parse(url)

    assert type(caught.value) is ValueError
    assert "canary" not in f"{caught.value!r}{unquote(str(caught.value))}".lower()
    assert caught.value.__context__ is None  # the parser's own errors hold pieces of the URL


@pytest.mark.parametrize("url", [None, b"https://acct.blob.core.windows.net/data/a", 1])
@pytest.mark.parametrize("kind", [BlobUrl, ContainerUrl])
def test_other_types_are_refused(kind: type[BlobUrl] | type[ContainerUrl], url: object) -> None:
    """A path object or bytes is a programming error, not a bad URL."""
    with pytest.raises(TypeError, match="must be a str"):
        kind.parse(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "endpoint", "container", "sas"),
    [
        (f"{ACCOUNT}/data", ACCOUNT, "data", None),
        (f"{ACCOUNT}/data/", ACCOUNT, "data", None),
        (f"{ACCOUNT}/data/?{SAS}", ACCOUNT, "data", SAS),
        (f"{ACCOUNT}/data?{SAS}", ACCOUNT, "data", SAS),
        (f"{ACCOUNT}/$root", ACCOUNT, "$root", None),
        (f"{EMULATOR}/data?{SAS}", EMULATOR, "data", SAS),
        ("https://data.example.com/data", "https://data.example.com", "data", None),
    ],
)
def test_container_url_is_taken_apart(url: str, endpoint: str, container: str, sas: str | None) -> None:
    """A dataset starts from the URL of a container as the portal shows it."""
    parsed = ContainerUrl.parse(url)

    assert (parsed.endpoint, parsed.container, parsed.sas) == (endpoint, container, sas)
    assert parsed.url == str(parsed) == f"{endpoint}/{container}"
    assert pickle.loads(pickle.dumps(parsed)) == parsed


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (ACCOUNT, "names no container"),
        (EMULATOR, "names no container"),
        (f"{ACCOUNT}/data/a?{SAS}", "looks like a blob URL"),
        (f"{ACCOUNT}/data//", "looks like a blob URL"),
        (f"{ACCOUNT}/Data", "container name"),
        (f"{ACCOUNT}/data?snapshot=1", "belong to a blob"),
        (f"{ACCOUNT}/data?versionid=1&{SAS}", "belong to a blob"),
        (f"{ACCOUNT}/data?restype=container&comp=list&{SAS}", "'restype'"),
        ("https://acct.dfs.core.windows.net/data", "acct.blob.core.windows.net"),
    ],
)
def test_container_url_is_refused(url: str, words: str) -> None:
    """Above all the URL of a blob: listing its container instead would train on other data."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        ContainerUrl.parse(url)

    assert "canary" not in str(caught.value).lower()


def test_blob_of_a_container_has_its_sas_and_a_checked_name() -> None:
    """A name out of a listing is data from outside, and the request it makes is signed."""
    container = ContainerUrl.parse(f"{EMULATOR}/data?{SAS}")

    assert container.blob("a b/ü.bin").url == f"{EMULATOR}/data/a%20b/%C3%BC.bin"
    assert container.blob("a").sas == SAS
    for name in ("", "../other/a", "a/./b", "n" * 1025):
        with pytest.raises(ValueError, match="a blob name"):
            container.blob(name)


@pytest.mark.parametrize("url", [BlobUrl.parse(f"{ACCOUNT}/data/a?{SAS}"), ContainerUrl.parse(f"{ACCOUNT}/data?{SAS}")])
def test_sas_is_in_equality_and_hash_but_never_shown(url: BlobUrl | ContainerUrl) -> None:
    """Two signatures are two permissions, so a cache must tell them apart; a log must not."""
    other = dataclasses.replace(url, sas="sv=1&sig=other")

    assert url != other
    assert len({url, other, dataclasses.replace(url)}) == 2
    assert url.sas == SAS
    for shown in (str(url), repr(url), f"{url}", f"{[url]}", url.url):
        assert "CaNaRy" not in shown
    assert "sas=REDACTED" in repr(url)
    assert "REDACTED" not in repr(dataclasses.replace(url, sas=None))


def test_urls_are_frozen_and_small() -> None:
    """A dataset holds one per sample."""
    blob = BlobUrl.parse(f"{ACCOUNT}/data/a")

    with pytest.raises(dataclasses.FrozenInstanceError):
        blob.name = "b"  # type: ignore[misc]
    assert not hasattr(blob, "__dict__")


@pytest.mark.parametrize(
    ("endpoint", "is_loopback", "is_secure"),
    [
        (ACCOUNT, False, True),
        ("http://acct.blob.core.windows.net", False, False),
        ("http://127.0.0.1:10000/acct", True, True),
        ("http://127.8.9.10/acct", True, True),
        ("http://[::1]:10000/acct", True, True),
        ("http://localhost:10000/acct", True, True),
        ("https://localhost/acct", True, True),
        ("http://10.0.0.7:10000/acct", False, False),
        ("http://azurite:10000/devstoreaccount1", False, False),
        ("http://localhost.example.com", False, False),
        ("http://127.0.0.1.example.com", False, False),
    ],
)
def test_credentials_travel_over_https_or_stay_on_this_machine(
    endpoint: str, is_loopback: bool, is_secure: bool
) -> None:
    """A token sent over plain http belongs to whoever listens."""
    url = BlobUrl.parse(f"{endpoint}/data/a")

    assert url.is_loopback is is_loopback
    assert url.is_secure is is_secure


def test_snapshot_and_version_cannot_be_written() -> None:
    """The service would write the blob itself, or fail late; the mistake is known at once."""
    BlobUrl.parse(f"{ACCOUNT}/data/a?{SAS}").require_writable()
    for query, word in ((f"snapshot=1&{SAS}", "snapshot"), (f"versionid=1&{SAS}", "version")):
        with pytest.raises(ValueError, match=f"a {word} of a blob cannot be written") as caught:
            BlobUrl.parse(f"{ACCOUNT}/data/a?{query}").require_writable()
        assert "CaNaRy" not in str(caught.value)
