"""The attacks and the faults that were thought of, each with the tests that hold it.

A row is a name and tests, as `file::function` below this directory, without `test_`. `conftest` prints how many rows
were held at the end of a run, and with OCIROOTFS_TABLES=1 each of them. Attacks by layers are vectors, and have totals
of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

Rows = Mapping[str, tuple[str, ...]]

ATTACKS: Rows = {
    # By a registry
    "a blob with other bytes, or more, or fewer": (
        "registry::altered_blobs", "blob_faults::7_more_bytes_than_announced", "cache::wrong_bytes_are_not_kept",
    ),
    "a pinned manifest that is another": ("registry::a_pinned_manifest_that_is_another",),
    "a digest header that lies": ("registry::an_image",),
    "a document that is two things": ("manifest::refused", "manifest::refused_for_what_the_server_calls_it"),
    "a JSON name twice": ("strictjson::refused",),
    "documents without end": ("limits::answers", "transport::an_answer_that_is_too_large", "manifest::too_large"),
    "JSON that is deep, or has odd numbers": (
        "strictjson::refused", "manifest::anything_anywhere_is_a_manifest_or_an_input_error",
        "edge_attacks::sizes_that_are_none",
    ),
    "a size of exbibytes": ("edge_attacks::a_size_of_exbibytes_takes_no_memory",),
    "indexes in indexes, or of too many": (
        "edge_attacks::indexes_in_indexes",
        "edge_attacks::an_index_of_too_many",
        "edge_attacks::a_child_that_is_another",
    ),
    "digests that are paths": ("edge_attacks::digests_that_are_paths_or_none",),
    "references that lead elsewhere": ("edge_attacks::references_that_lead_elsewhere", "reference::refused"),
    "redirects to other schemes": ("origin::redirects_that_are_not_followed", "registry::redirects_to_nowhere"),
    "redirects into this machine": (
        "origin::redirects_that_are_not_followed", "auth::realms",
        "registry_faults_auth::a_name_that_leads_into_this_machine_is_not_followed",
    ),
    "redirects away from TLS": ("origin::redirects_that_are_not_followed",),
    "credentials to another origin": (
        "edge_attacks::credentials_are_for_the_exact_origin", "edge_attacks::a_user_in_a_redirect_is_refused",
        "registry::a_password_is_not_carried_along_a_redirect", "registry::cookies_are_not_kept",
    ),
    "a challenge by a redirect's target": (
        "registry::a_challenge_of_a_redirects_target_is_not_answered",
        "blob_faults::25_a_challenge_of_the_cdn_is_not_answered",
    ),
    "a token server of somebody else": (
        "auth::realms", "siblings::strangers", "registry_faults_auth::a_foreign_token_server_must_be_trusted_by_name",
    ),
    "a token server that redirects": (
        "edge_attacks::redirects_of_a_token_server", "registry::a_refresh_token_is_not_carried_along_a_redirect",
    ),
    "a scope that is too wide": ("registry::only_pull_is_asked_for",),
    "layers that are elsewhere": (
        "blob_faults::38_foreign_layers_are_refused", "blob_faults::38_foreign_urls_that_are_not_followed",
    ),
    "redirects with a body, or without end": ("registry::the_body_of_a_redirect_is_not_read", "limits::redirects"),
    "encodings under a digest": (
        "registry::a_lying_content_encoding", "registry_odd_images::a_blob_that_is_really_encoded_is_another",
    ),
    "ranges that were not asked for": ("blob_faults::survived", "registry::ranges_that_are_not_what_was_asked_for"),
    "a byte now and then": ("blob_faults::a_trickle_is_a_stall", "edge_attacks::servers_that_say_nothing"),
    "answers that are no HTTP": ("edge_attacks::answers_that_are_no_http", "transport::an_answer_that_is_no_http"),
    "certificates that are not good": ("tls::certificates_that_are_not_good", "tls::insecure_is_for_the_hosts_named"),
    "netrc, and proxies' passwords": ("registry::netrc_is_nobodys_business", "secrets::a_proxys_secret"),
    "credential helpers": (
        "credentials::names_of_helpers", "credentials::helpers_that_fail",
        "credentials::helpers_are_not_looked_for_in_relative_directories",
        "credentials::a_helper_may_leave_somebody_behind_who_holds_its_output",
        "signals::a_credential_helper_that_hangs_is_stopped",
    ),
    "credential files": (
        "credentials::a_usual_file_that_cannot_be_used_is_left_out",
        "registry_odd_images::a_file_that_others_can_read_is_told_about",
    ),
    "secrets anywhere else": (
        "secrets::a_registrys_secrets", "secrets::a_buckets_secrets", "edge_attacks::what_a_url_holds_is_not_shown",
        "auth::what_is_no_error_is_not_shown", "reference::a_password_is_not_repeated",
    ),
    "passwords as arguments": (
        "edge_attacks::no_option_takes_a_password_alone", "secrets::a_password_among_the_arguments_is_in_no_message",
    ),
    "a cache that somebody planted": (
        "cache::what_is_no_whole_file_is_downloaded_anew", "cache::a_link_planted_for_a_partial_is_not_followed",
        "cache::a_damaged_blob_says_so_and_is_gone", "cache::it_is_an_oci_layout_for_its_owner_alone",
    ),
    "a tag that moves": ("edge_attacks::a_tag_that_moves_is_resolved_once",),
    "links to further pages": ("edge_attacks::a_link_to_a_next_page_is_nobodys_business",),
    "labels and names that are paths or commands": (
        "naming::what_a_label_says_stays_in_its_place",
        "edge_attacks::no_word_of_an_image_or_a_server_controls_a_terminal",
    ),
    "a destination that is a link, or no file": (
        "destination::only_a_regular_file_is_replaced", "destination::what_appeared_meanwhile_is_not_replaced_either",
    ),
    "a layout that leads out of itself": (
        "members::a_directory_is_not_left", "edge_attacks::a_layout_below_a_link_is_not_read",
    ),
    "programs in the path": ("edge_attacks::no_program_of_the_path_is_run",),
    # By a store
    "a bucket of somebody else": ("s3_options::every_request_names_the_owner_that_is_expected",),
    "keys and metadata that no store takes": (
        "s3url::what_is_no_url", "s3url::options_that_no_store_takes",
        "s3_options::metadata_is_ascii_whatever_the_image_is_called",
    ),
    "a store that leads elsewhere": ("edge_attacks::a_store_that_leads_elsewhere",),
    "a signed URL as a destination": (
        "edge_attacks::a_signed_url_is_no_destination_and_is_not_shown", "s3::no_secret_is_told",
        "secrets::a_password_in_an_endpoint", "secrets::a_password_in_a_buckets_url",
    ),
    "a huge error of a store": ("edge_attacks::a_huge_error_of_a_store",),
    "an object for everybody": ("s3_options::what_is_said_of_the_object",),
}  # fmt: skip

FAULTS: Rows = {
    "a connection that breaks": ("blob_faults::survived", "blob_faults::2_a_reset_in_the_middle"),
    "a body that is short, long or without length": (
        "blob_faults::survived", "registry::a_body_without_length_that_ends_early", "registry::blobs_of_another_size",
    ),
    "a server in trouble": ("blob_faults::13_trouble_that_passes", "blob_faults::13_trouble_that_stays"),
    "a server that asks to wait": ("blob_faults::12_retry_after", "transport::waits_add_up"),
    "a token that ends in the middle": (
        "registry::a_token_that_ends_in_the_middle", "registry::a_token_that_ends_in_the_middle_of_a_blob",
    ),
    "a signed URL that has expired": ("blob_faults::24_a_signed_url_that_has_expired",),
    "nobody listens, no such host": ("transport::nobody_listens", "registry_errors::what_is_said"),
    "silence": ("blob_faults::3_a_stall_for_ever", "edge_attacks::servers_that_say_nothing"),
    "what is corrupt or cut": ("pipeline::rejected_vectors", "compression::a_cut_at_every_byte"),
    "clocks that disagree": ("faults::clocks_that_disagree", "s3::refusals_are_told_apart"),
    "a layer that is missing": ("registry::a_layer_that_is_missing",),
    "a proxy in trouble": ("proxy::a_proxy_that_lets_nobody_through",),
    "a full disk for the cache": ("faults::a_full_disk_for_the_cache", "cache::a_full_disk"),
    "a full disk for temporary files": ("bounds::a_full_temporary_disk",),
    "a full disk for the archive": (
        "faults::a_full_disk_for_the_archive", "faults::a_full_device", "faults::a_name_printed_to_a_full_device",
    ),
    "disks that are read-only": ("faults::a_disk_that_is_read_only", "faults::a_cache_that_is_read_only"),
    "nobody's home": ("faults::no_home", "pipeline::a_user_without_name_or_home"),
    "no place for temporary files": ("faults::no_place_for_temporary_files",),
    "neither /proc nor /dev/shm": ("faults::neither_proc_nor_shm",),
    "few open files, no more threads": (
        "faults::few_open_files", "faults::no_more_threads", "faults::no_more_threads_to_mirror_with",
    ),
    "128 MB of memory": (
        "faults::many_layers_in_128_megabytes", "s3_process::two_gigabytes_in_128_megabytes",
        "faults::too_little_memory",
    ),
    "any locale": ("pipeline::the_same_bytes_whatever_the_process_is_like", "faults::no_home"),
    "streams that are closed": (
        "faults::streams_that_are_closed", "faults::an_archive_for_a_closed_stream_is_an_error",
        "faults::an_image_from_a_closed_stream",
    ),
    "a reader that leaves": ("pipeline::a_reader_that_has_seen_enough",),
    "a reader that is slow": ("blob_faults::a_reader_may_be_slow",),
    "a pipe that is cut": ("faults::cut_everywhere_publishes_nothing", "pipeline::cut_anywhere"),
    "a writer that pauses": ("faults::a_writer_that_pauses_is_waited_for",),
    "signals at any time": (
        "faults::stopped_at_each_request", "faults::stopped_at_each_step_of_an_upload",
        "s3_process::killed_at_any_time", "pipeline::stopped_while_a_file_is_written",
        "signals::clean_up_ends", "signals::a_signal_that_does_not_interrupt_the_reading_of_a_pipe",
        "parts::cancel_waits_for_a_part_whose_thread_was_being_started_when_a_signal_came",
    ),
    "a second signal": ("faults::a_second_signal_while_cleaning_up",),
    "SIGKILL": ("faults::killed", "cache::a_process_that_is_killed_leaves_what_the_next_one_goes_on_with"),
    "SIGSTOP": ("faults::stopped_and_continued",),
    "a store in trouble": ("s3::one_failure_is_overcome", "s3::lasting_trouble_is_temporary"),
    "a part that arrives altered": (
        "s3::a_part_that_arrives_altered_is_sent_again", "s3::a_part_that_always_arrives_altered_is_refused",
    ),
    "an error that says 200": (
        "s3::complete_that_answers_200_with_an_error", "s3::an_answer_without_an_etag_is_not_believed",
        "s3::a_page_that_answers_everything_stores_nothing",
    ),
    "a lost answer to the last request": ("s3::a_lost_answer_to_the_last_request_is_no_failure",),
    "an abort that fails": ("s3::an_abort_that_is_refused_is_told_with_the_way_out",),
    "credentials that expire": ("s3_options::credentials_that_expire_are_fetched_again", "s3::refusals_are_told_apart"),
    "two processes, one destination": (
        "faults::two_processes_with_one_destination", "faults::two_processes_with_one_key",
    ),
    "many processes, one cache": ("cache::many_processes_of_which_some_are_killed",),
    "ten thousand parts": ("parts::neither_ten_thousand_parts_nor_five_tebibytes_are_hit",),
    "short reads": ("parts::parts_are_full_whatever_the_writes_are",),
    "stores that lack something": ("s3_options::a_store_without_if_none_match",),
    "0, 127 and 300 layers, of nothing": ("faults::any_number_of_layers", "registry_odd_images::an_image_of_no_layers"),
    "a cache that is cut": ("cache::what_is_no_whole_file_is_downloaded_anew", "cache::a_partial_that_was_damaged"),
    "a warm cache without a network": ("faults::a_warm_cache_without_a_network",),
}  # fmt: skip

TABLES = {"attacks": (ATTACKS, "contained"), "faults": (FAULTS, "survived, 0 lost")}


def holding(row: tuple[str, ...]) -> list[str]:
    """Return where the tests are: `tests/test_x.py::test_y`."""
    parts = (test.partition("::") for test in row)
    return [f"tests/test_{file}.py::test_{name}" for file, _, name in parts]


def held(rows: Rows, passed: set[str], failed: set[str]) -> dict[str, str]:
    """Tell of each row whether it is held, lost, or not run (in full), by the tests that passed and that failed."""
    found = {}
    for name, row in rows.items():
        tests = holding(row)
        ran = all(test in passed for test in tests)
        found[name] = "LOST" if failed & set(tests) else "held" if ran else "not run"
    return found


def summary(passed: set[str], failed: set[str], *, full: bool) -> list[str]:
    """Return the lines that say how many rows of each table were held, and with `full` each row."""
    lines = []
    for title, (rows, word) in TABLES.items():
        states = held(rows, passed, failed)
        counts = {state: list(states.values()).count(state) for state in ("held", "LOST", "not run")}
        if counts["held"] + counts["LOST"] == 0:
            continue
        if full:
            lines += [f"  {state:8} {name}" for name, state in states.items()]
        trouble = "".join(f"; {counts[state]} {state}" for state in ("LOST", "not run") if counts[state])
        lines.append(f"{title}: {counts['held']} of {len(rows)} {'held' if counts['LOST'] else word}{trouble}")
    return lines
