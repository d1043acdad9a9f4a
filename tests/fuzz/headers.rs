//! `Prefer`, `Accept`, `Content-Type` and `Range`.

#![no_main]

use axum::http::{HeaderMap, HeaderValue, header::HeaderName};
use libfuzzer_sys::fuzz_target;
use switchboard::gateway::rest::parse::{
    media::{self, Media},
    prefer::Prefer,
    range::{Range, Window},
};

fuzz_target!(|value: &[u8]| {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(HeaderName::from_static("prefer"), value);
    }
    let _ = Prefer::parse(&headers).check();
    let text = String::from_utf8_lossy(value);
    let _ = media::accepted(Some(&text));
    let _ = Media::parse(&text);
    let _ = Range::requested(Window::default(), Some(&text));
});
