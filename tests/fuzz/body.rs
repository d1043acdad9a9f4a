//! Bodies as JSON, CSV and forms.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use switchboard::gateway::rest::parse::{media::Media, payload::Payload};

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    for media in [Media::Json, Media::Csv, Media::Form] {
        let _ = Payload::parse(&media, &body, None);
        let _ = Payload::parse(&media, &body, Some(&["id".to_owned()]));
    }
});
