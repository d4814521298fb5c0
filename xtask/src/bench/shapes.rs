//! Wire shapes that the leading peer gets wrong (measured in a guest like ours), and what Remora reports;
//! each with the test that shows it.

/// What is on the wire, what the peer says of it, what Remora says, the test.
pub(crate) const SHAPES: [[&str; 4]; 11] = [
    [
        "20 requests pipelined in one segment",
        "1 span, sizes summed",
        "20 spans, each with its own size and status",
        "pipelined_split_and_continued_requests_are_told_apart",
    ],
    [
        "a request after a 204 or 304",
        "wrong or missing",
        "its own span: such responses have no content",
        "responses_without_content_do_not_swallow_the_next",
    ],
    [
        "`100 Continue` before the response",
        "status 100",
        "the final status",
        "interim_responses_are_not_final",
    ],
    [
        "a head that comes byte by byte",
        "no span, or status 499",
        "one span with all of its fields",
        "heads_split_at_every_byte",
    ],
    [
        "a chunked response",
        "ends near its first chunk",
        "ends with the last chunk's last byte",
        "uncaptured_chunks_end_with_the_last_fragment",
    ],
    [
        "content that looks like a request",
        "a false span",
        "no span: it is content, by its length",
        "content_that_looks_like_a_message_is_content",
    ],
    [
        "a reset in mid-response",
        "status 200 and no error",
        "status 200 with the transport's `error.type`",
        "the_end_of_the_connection_settles_what_is_open",
    ],
    [
        "a method that is not registered",
        "no span",
        "a span, `_OTHER` with the original beside it",
        "unknown_methods_are_other_and_keep_the_original",
    ],
    [
        "a connection that was open before",
        "no spans",
        "spans from the next request on, marked `remora.joined`",
        "a_connection_that_was_open_before_is_joined",
    ],
    [
        "`traceparent` behind 30 KB of other fields",
        "a new trace",
        "the caller's trace and parent",
        "pipelined_split_and_continued_requests_are_told_apart",
    ],
    [
        "`traceparent` with the sampled flag 00",
        "exported",
        "sampled out, and counted so",
        "unsampled_header_is_honoured_down_to_the_children",
    ],
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::SHAPES;
    use crate::shell::workspace;

    /// All Rust in a folder.
    fn sources(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_shape_names_a_test_that_exists() {
        let mut text = String::new();
        for folder in ["agent/src", "tests/tests"] {
            sources(&workspace().join(folder), &mut text);
        }
        for [shape, .., test] in SHAPES {
            assert!(text.contains(&format!("#[test]\nfn {test}()")), "{shape}: no test {test}");
        }
    }
}
