"""The checks on which safety rests outside the flattening core, and for each the tests that miss it when it is gone."""

from __future__ import annotations

from typing import NamedTuple


class Guard(NamedTuple):
    """A check: `text`, which occurs once in the module, is replaced by what does not check; `tests` must fail then."""

    name: str
    module: str
    text: str
    replacement: str
    tests: tuple[str, ...]


GUARDS = [
    # Who may see a credential
    Guard(
        "credentials are for the exact origin", "registry/transport",
        "        own = Origin.of(url) == Origin.of(request.url)",
        "        own = True",
        ("test_edge_attacks.py::test_credentials_are_for_the_exact_origin[another port]",),
    ),
    Guard(
        "an origin has a port", "registry/origin",
        "        return cls(parts.scheme, host, port if port is not None else _DEFAULT_PORT[parts.scheme])",
        "        return cls(parts.scheme, host, 443)",
        ("test_origin.py::test_origins",),
    ),
    Guard(
        "the token server is its registry's kin", "registry/auth",
        "        if credentials and not self._trusts(realm, origin):",
        "        if credentials and not realm:",
        ("test_auth.py::test_realms",),
    ),
    Guard(
        "two hosts under co.uk are strangers", "registry/siblings",
        "    return labels[-3:] if _is_national(labels[-2:]) else labels[-2:]",
        "    return labels[-2:]",
        ("test_siblings.py::test_strangers",),
    ),
    Guard(
        "two hosts where everybody may have one are strangers", "registry/siblings",
        " or _is_shared(one) or _is_shared(other):",
        ":",
        ("test_siblings.py::test_strangers",),
    ),
    Guard(
        "addresses have no siblings", "registry/siblings",
        "    if address(one) or address(other) or",
        "    if",
        ("test_siblings.py::test_strangers",),
    ),
    Guard(
        "a token server has TLS", "registry/auth",
        '    if there.scheme == "http" and origin.scheme != "http" and not within:',
        "    if not within and not there:",
        ("test_auth.py::test_realms",),
    ),
    Guard(
        "a token server is not in this machine", "registry/auth",
        "    if not origin.is_local and (there.is_local or (_is_private(there) and not _is_private(origin))):",
        "    if not there:",
        ("test_auth.py::test_realms",),
    ),
    Guard(
        "only pull is asked for", "registry/auth",
        '    scope = f"repository:{reference.repository}:pull"',
        '    scope = challenge.parameters.get("scope", "")',
        ("test_registry.py::test_only_pull_is_asked_for",),
    ),
    Guard(
        "a challenge of a redirect's target is not answered", "registry/client",
        "        if answer.redirected:\n            return None",
        "        if not answer:\n            return None",
        ("test_registry.py::test_a_challenge_of_a_redirects_target_is_not_answered",),
    ),
    Guard(
        "a form with a secret is not redirected", "registry/transport",
        "            if request.form is not None:",
        "            if request.form == {}:",
        ("test_registry.py::test_a_refresh_token_is_not_carried_along_a_redirect",),
    ),
    Guard(
        "netrc is not read", "registry/transport",
        "headers=headers, data=request.form, auth=_AsWritten(url))",
        "headers=headers, data=request.form)",
        ("test_registry.py::test_netrc_is_nobodys_business",),
    ),
    Guard(
        "a token does not split a header", "registry/auth",
        "    if not _VISIBLE.fullmatch(token):  # it would split the header",
        "    if not token:",
        ("test_auth.py::test_token_servers_that_refuse_or_make_no_sense",),
    ),
    Guard(
        "what may be a token is not shown", "registry/auth",
        "if status >= 400 else str(status)",
        "if status else str(status)",
        ("test_auth.py::test_what_is_no_error_is_not_shown",),
    ),
    Guard(
        "a helper's name is a name", "registry/credhelper",
        "    if not _NAME.fullmatch(name):",
        "    if not name:",
        ("test_credentials.py::test_names_of_helpers",),
    ),
    Guard(
        "helpers are not looked for in relative directories", "registry/credhelper",
        "entry for entry in path.split(os.pathsep) if entry.startswith(\"/\"))",
        "entry for entry in path.split(os.pathsep))",
        ("test_credentials.py::test_helpers_are_not_looked_for_in_relative_directories",),
    ),
    # Where a registry may lead
    Guard(
        "from https to http", "registry/origin",
        '    if here.scheme == "https" and there.scheme == "http":',
        "    if not here:",
        ("test_origin.py::test_redirects_that_are_not_followed",),
    ),
    Guard(
        "into this machine", "registry/origin",
        "    if there.is_local and not here.is_local:",
        "    if not there:",
        ("test_origin.py::test_redirects_that_are_not_followed",),
    ),
    Guard(
        "a name that leads into this machine", "registry/connections",
        "    if is_local_address(peer):",
        "    if not peer:",
        ("test_registry_faults_auth.py::test_a_name_that_leads_into_this_machine_is_not_followed",),
    ),
    Guard(
        "a user name in a URL", "registry/origin",
        '    if "@" in parts.netloc:',
        '    if "@@" in parts.netloc:',
        ("test_edge_attacks.py::test_a_user_in_a_redirect_is_refused",),
    ),
    Guard(
        "only http and https", "registry/origin",
        "        if parts.scheme not in _DEFAULT_PORT:",
        "        if not parts.scheme:",
        ("test_origin.py::test_no_origin",),
    ),
    Guard(
        "ten redirects", "registry/transport",
        "        for _ in range(self._redirects + 1):",
        "        for _ in range(self._redirects + 90):",
        ("test_limits.py::test_redirects[11-False]",),
    ),
    Guard(
        "foreign layers are asked for", "registry/client",
        "        if not self._allow_foreign:",
        "        if not hosts:",
        ("test_blob_faults.py::test_38_foreign_layers_are_refused",),
    ),
    # What is believed
    Guard(
        "the bytes are those of the digest", "digest",
        "    if actual != digest:",
        "    if not digest:",
        ("test_registry.py::test_altered_blobs",),
    ),
    Guard(
        "a pinned manifest is that manifest", "registry/client",
        "    if actual != digest:",
        "    if not actual:",
        ("test_registry.py::test_a_pinned_manifest_that_is_another",),
    ),
    Guard(
        "a digest is hexadecimal", "digest",
        "        if length is None or len(encoded) != length or not _HEX.fullmatch(encoded):",
        "        if length is None or len(encoded) != length:",
        ("test_edge_attacks.py::test_digests_that_are_paths_or_none[layers-path of the right length]",),
    ),
    Guard(
        "a range is the one asked for", "registry/blob",
        '    return (int(match[1]), int(match[2])) == (position, size - 1) and match[3] in {"*", str(size)}',
        "    return True",
        ("test_blob_faults.py::test_survived[9-another-start]",),
    ),
    Guard(
        "an answer has a largest size", "registry/transport",
        "        if len(body) > limit:",
        "        if len(body) < 0:",
        ("test_transport.py::test_an_answer_that_is_too_large",),
    ),
    Guard(
        "an image or an index", "manifest",
        "    if image and index:",
        "    if image is index is None:",
        ("test_manifest.py::test_refused",),
    ),
    Guard(
        "a document is what it is called", "manifest",
        "        if _kind(claimed) not in {kind, None}:",
        "        if not kind:",
        ("test_manifest.py::test_refused_for_what_the_server_calls_it",),
    ),
    Guard(
        "no name twice in one object", "strictjson",
        "    if len(found) != len(pairs):",
        "    if len(found) > len(pairs):",
        ("test_strictjson.py::test_refused",),
    ),
    Guard(
        "JSON has a depth", "strictjson",
        "    for _ in range(depth + 1):",
        "    for _ in range(9999):",
        ("test_strictjson.py::test_refused",),
    ),
    Guard(
        "indexes have a depth", "registry/client",
        "            elif depth == 0:",
        "            elif depth == -50:",
        ("test_edge_attacks.py::test_indexes_in_indexes",),
    ),
    # What is kept
    Guard(
        "a cached blob is hashed on its way out", "registry/cache",
        "        if actual != descriptor.digest:",
        "        if not actual:",
        ("test_cache.py::test_a_damaged_blob_says_so_and_is_gone",),
    ),
    Guard(
        "a planted link is not followed", "registry/cache",
        "_READ = os.O_RDONLY | os.O_NOFOLLOW |",
        "_READ = os.O_RDONLY |",
        ("test_cache.py::test_what_is_no_whole_file_is_downloaded_anew",),
    ),
    Guard(
        "a cache is for its owner", "registry/cache",
        "        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)",
        "        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)",
        ("test_cache.py::test_it_is_an_oci_layout_for_its_owner_alone",),
    ),
    Guard(
        "a failure leaves no file", "packing",
        "    except BaseException:\n        destination.abort()",
        "    except BaseException:\n        str(destination)",
        ("test_api.py::test_whatever_stops_it_aborts",),
    ),
    Guard(
        "only a file is replaced", "destination",
        "        if not stat.S_ISREG(mode):",
        "        if not mode:",
        ("test_destination.py::test_only_a_regular_file_is_replaced",),
    ),
    Guard(
        "a symlink of a layout is not read", "archive/members",
        "            if any(os.path.islink(directory) for directory in above):",
        "            if not path:",
        ("test_edge_attacks.py::test_a_layout_below_a_link_is_not_read",),
    ),
    Guard(
        "a pipe has an end marker", "tar/reader",
        "    if end_required and not block:",
        "    if end_required and block:",
        ("test_tar_reader.py::test_no_end_when_it_is_required",),
    ),
    Guard(
        "names hold no NUL", "layertree",
        ' or b"\\0" in name:',
        ":",
        ("test_flattening.py::test_a_name_with_a_nul_is_refused_wherever_it_comes_from",),
    ),
    Guard(
        "the short way takes no other checksum", "tar/reader",
        " != _checksum(block[148:156]):",
        " < 0:",
        ("test_tar_reader.py::test_the_short_way_is_the_long_way",),
    ),
    Guard(
        "the short way takes no prefix", "tar/reader",
        "None if back[345 - 156] else ",
        "",
        ("test_tar_reader.py::test_the_short_way_is_the_long_way",),
    ),
    Guard(
        "the short way takes digits alone", "tar/reader",
        " or not (size.isdigit() and seconds.isdigit()):",
        ":",
        ("test_tar_reader.py::test_the_short_way_is_the_long_way",),
    ),
    Guard(
        "the short way takes no other owner", "tar/reader",
        "    if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):\n        return None",
        "    if uid is None:\n        return None",
        ("test_tar_reader.py::test_the_short_way_is_the_long_way",),
    ),
    # What it may take
    Guard(
        "a window of zstd has a size", "compression",
        "    context = zstandard.ZstdDecompressor(max_window_size=window)",
        "    context = zstandard.ZstdDecompressor(max_window_size=2**31)",
        ("test_limits.py::test_the_window_of_zstd[28]",),
    ),
    Guard(
        "entries have a number", "tar/reader",
        "        left -= 1\n        if left < 0:\n"
        '            raise _too_many(most, limits, start)',
        "        left -= 1",
        ("test_limits.py::test_entries[stream]",),
    ),
    Guard(
        "names have a length", "tar/reader",
        "        if len(body) > self._limits.path and max(map(len, self._names())) > self._limits.path:",
        "        if not self._limits.path:",
        ("test_limits.py::test_the_length_of_names",),
    ),
    Guard(
        "extension headers have a size", "tar/reader",
        "    if not 0 <= size <= limits.extension:",
        "    if not 0 <= size:",
        ("test_tar_reader.py::test_extension_headers_are_bounded_by_their_size_field",),
    ),
    Guard(
        "a number behind a NUL is refused", "tar/header",
        '        if rest.strip(b"\\0 "):',
        "        if not rest.isascii():",
        ("test_tar_reader.py::test_a_number_behind_a_nul_is_refused",),
    ),
    Guard(
        "a second PAX header is refused", "tar/reader",
        "            if self._has_pax:",
        "            if not self._limits:",
        ("test_tar_reader.py::test_two_pax_headers_are_refused",),
    ),
    Guard(
        "attributes that are kept are bounded", "flattening",
        "        if self._attributes < 0:",
        "        if not self._limits:",
        ("test_bounds.py::test_attributes_that_are_kept_are_bounded",),
    ),
    Guard(
        "directories that nobody lists are counted", "layertree",
        "                if self.implied > self._most:",
        "                if not self._most:",
        ("test_limit_option.py::test_a_limit[implied-20-oci]",),
    ),
    Guard(
        "extension headers have a number", "tar/reader",
        "        if self._count > _EXTENSIONS:",
        "        if not _EXTENSIONS:",
        ("test_tar_reader.py::test_extension_headers_are_counted",),
    ),
    Guard(
        "sparse files have a size", "tar/sparse",
        "    if size < 0 or size > most:",
        "    if size < 0:",
        ("test_tar_reader.py::test_sparse_maps_that_lie",),
    ),
    Guard(
        "layers expand to so much", "expansion",
        "            if self._left < 0:",
        "            if not self.most:",
        ("test_limits.py::test_what_layers_decompress_to",),
    ),
    Guard(
        "an archive comes to so much", "expansion",
        'if count > most:\n            raise _too_much("the archive", most)',
        'if not most:\n            raise _too_much("the archive", most)',
        ("test_limits.py::test_what_the_archive_comes_to",),
    ),
    Guard(
        "a tree comes to so much", "expansion",
        'if count > most:\n            raise _too_much("the tree", most)',
        'if not most:\n            raise _too_much("the tree", most)',
        ("test_limits.py::test_the_option_for_a_directory",),
    ),
    Guard(
        "entries of all layers are counted", "flattening",
        "        self._left = max(0, self._left - (ordinal + 1) - tree.implied)\n",
        "",
        ("test_limits.py::test_entries_of_all_layers_together",),
    ),
    # What is shown
    Guard(
        "control characters are escaped", "errors",
        "    if code < 0x20 or 0x7F <= code <= 0x9F:",
        "    if code < 0x07:",
        ("test_entry.py::test_the_error_names_the_entry_in_printable_words",
         "test_edge_attacks.py::test_no_word_of_an_image_or_a_server_controls_a_terminal"),
    ),
    Guard(
        "a URL is shown without its query", "registry/origin",
        '    bare = re.split(r"[?#]", url, maxsplit=1)[0]',
        "    bare = url",
        ("test_origin.py::test_redacted",),
    ),
]  # fmt: skip
