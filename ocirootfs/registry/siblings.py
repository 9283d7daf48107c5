"""Siblings: two hosts of one domain that somebody owns, as `registry-1.docker.io` and `auth.docker.io` are.

Where a domain begins that can be owned is written nowhere but in a list of ten thousand lines, which changes daily
(publicsuffix.org). Here is the little of it that registries and those who might pose as one are found under. In doubt
two hosts are strangers: that costs a `--trust-realm`, the reverse a password.
"""

from __future__ import annotations

from ocirootfs.registry.origin import address

# What the registrars of a country sell names below: `co.uk`, `com.br`, `info.pl`.
_SECOND_LEVEL = frozenset([
    "ac", "ad", "adv", "agro", "asn", "asso", "biz", "blog", "club", "co", "com", "coop", "cri", "ed", "edu", "eng",
    "fin", "firm", "gen", "go", "gob", "gok", "gouv", "gov", "govt", "gr", "gub", "gv", "id", "idf", "ind", "info",
    "int", "iwi", "k12", "law", "lg", "ltd", "med", "mil", "mod", "muni", "museum", "name", "ne", "net", "nhs", "nic",
    "nom", "or", "org", "pe", "plc", "police", "press", "priv", "pro", "re", "res", "sc", "sch", "school", "shop",
    "store", "tm", "tv", "web",
])  # fmt: skip
# Whose provinces are of two letters, and have such domains, too: `on.ca`, `mi.it`.
_WITH_PROVINCES = frozenset(["ca", "cn", "it", "us"])
# Below these everybody can have a host, or whoever pays for one, at any depth.
_SHARED = frozenset([
    "amazonaws.com", "amazonaws.com.cn", "appdomain.cloud", "appspot.com", "awsapprunner.com", "azure-api.net",
    "azurecontainer.io", "azurecontainerapps.io", "azurecr.io", "azureedge.net", "azurefd.net", "azurewebsites.net",
    "b-cdn.net", "bitbucket.io", "br.com", "cloudapp.azure.com", "cloudapp.net", "cloudfront.net", "cloudfunctions.net",
    "cn.com", "co.com", "ddns.net", "de.com", "deno.dev", "digitaloceanspaces.com", "duckdns.org", "dyndns.org",
    "elasticbeanstalk.com", "eu.com", "eu.org", "fastly.net", "fc.aliyuncs.com", "firebaseapp.com", "fly.dev", "gb.net",
    "github.dev", "github.io", "githubpreview.dev", "gitlab.io", "herokuapp.com", "hf.space", "jfrog.io",
    "linodeobjects.com", "loca.lt", "netlify.app", "ngrok-free.app", "ngrok-free.dev", "ngrok.app", "ngrok.dev",
    "ngrok.io", "nip.io", "no-ip.org", "on.aws", "ondigitalocean.app", "onrender.com", "openshiftapps.com", "pages.dev",
    "r2.dev", "railway.app", "run.app", "sslip.io", "trafficmanager.net", "traefik.me", "trycloudflare.com", "ts.net",
    "uk.com", "uk.net", "us.com", "vercel.app", "web.app", "windows.net", "workers.dev",
])  # fmt: skip


def are_siblings(one: str, other: str) -> bool:
    """Tell whether two hosts, in lower case, are surely of one domain; addresses are of none."""
    if address(one) or address(other) or _is_shared(one) or _is_shared(other):
        return False
    domain = _domain(one)
    return len(domain) > 1 and domain == _domain(other)


def _is_shared(host: str) -> bool:
    labels = host.split(".")
    return any(".".join(labels[start:]) in _SHARED for start in range(len(labels)))


def _domain(host: str) -> list[str]:
    """Return the last two labels, or three where the two are like `co.uk`."""
    labels = host.split(".")
    return labels[-3:] if _is_national(labels[-2:]) else labels[-2:]


def _is_national(end: list[str]) -> bool:
    if len(end) < 2 or len(end[1]) != 2:
        return False
    return end[0] in _SECOND_LEVEL or (len(end[0]) == 2 and end[1] in _WITH_PROVINCES)
