"""The site's proxies and CAs as environment variables of git, pip and curl."""

from __future__ import annotations

from r1deploy.settings.model import Site

CA_VARIABLES = ("GIT_SSL_CAINFO", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def environment(site: Site) -> dict[str, str]:
    """Variables for the site's proxies and index, without its CAs. They may hold passwords: not for an argument."""
    variables: dict[str, str] = {}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        value = getattr(site, name)
        if value:
            variables |= {name: value, name.upper(): value}
    if site.pip_index_url:
        variables["PIP_INDEX_URL"] = site.pip_index_url
    return variables


def with_ca(site: Site) -> dict[str, str]:
    """The same with the CA bundle of this machine, for a program that runs here."""
    ca = dict.fromkeys(CA_VARIABLES, site.ca_bundle) if site.ca_bundle else {}
    return {**environment(site), **ca}


def git_proxy(site: Site) -> str:
    """The one proxy that git takes from its configuration; empty: none."""
    return site.https_proxy or site.http_proxy or ""
