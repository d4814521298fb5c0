//! Templates for `http.route`.
