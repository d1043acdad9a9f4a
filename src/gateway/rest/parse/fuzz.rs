//! No input panics a parser, hangs it, or makes it say something other than PGRST100 and its kind.

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    filter,
    media::{self, Media},
    operation, order, path,
    payload::Payload,
    prefer::Prefer,
    query::{Plain, Query},
    select,
};

/// What the grammars are made of, so that random texts get deep into them.
const PIECES: [&str; 48] = [
    "a", "id", "tasks", "*", "(", ")", ",", ".", ":", "::", "->", "->>", "-", "\"", "\\", "!", "...", "{", "}", "[",
    "]", "=", "&", "+", "%", "%2", "%22", " ", "eq", "not", "in", "is", "null", "or", "and", "fts(", "(any)", "like",
    "count()", "sum()", "inner", "order", "limit", "0", "-1", "é", "🦀", "\0",
];

fn text(random: &mut SmallRng) -> String {
    let length = random.random_range(0..24);
    (0..length)
        .map(|_| PIECES[random.random_range(0..PIECES.len())])
        .collect()
}

#[test]
fn parsers_take_any_text() {
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let text = text(&mut random);
        let _ = select::parse(&text, &["auth.users"]);
        let _ = operation::operation(&text);
        let _ = filter::group(false, true, &format!("({text})"));
        let _ = filter::tree_path(&text);
        let _ = filter::logic_path(&text);
        let _ = order::parse(&text);
        let _ = path::parse(&text);
        let _ = media::accepted(Some(&text));
        let _ = Query::parse(&text, Plain::Filters, &[]);
        let _ = Query::parse(&text, Plain::Arguments, &[]);
        let body = Bytes::from(text);
        for media in [Media::Json, Media::Csv, Media::Form] {
            let _ = Payload::parse(&media, &body, None);
        }
    }
}

#[test]
fn what_a_cast_lets_through_is_a_name() {
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let value = format!("a::{}", text(&mut random));
        let Ok(items) = select::parse(&value, &[]) else {
            continue;
        };
        for item in items {
            let select::Item::Column(column) = item else { continue };
            let casts = [column.cast, column.aggregate.and_then(|aggregate| aggregate.cast)];
            for cast in casts.into_iter().flatten() {
                let safe = |character: char| character.is_alphanumeric() || "_$ ".contains(character);
                assert!(!cast.is_empty() && cast.chars().all(safe), "{cast}");
            }
        }
    }
}

/// Members of JSON objects as clients send them, and what is none.
const MEMBERS: [&str; 12] = [
    r#""a":1"#,
    r#""b":null"#,
    r#""a":"x""#,
    r#""\u0000":1e400"#,
    r#""":[{"a":1}]"#,
    r#""c":{"a":2}"#,
    r#""é":true"#,
    r#""a""#,
    "1",
    "[]",
    ":",
    "",
];

#[test]
fn a_body_that_is_read_is_an_array_with_those_keys() {
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let object = |random: &mut SmallRng| {
            let members: Vec<_> = (0..random.random_range(0..3))
                .map(|_| MEMBERS[random.random_range(0..MEMBERS.len())])
                .collect();
            format!("{{{}}}", members.join(","))
        };
        let objects: Vec<_> = (0..random.random_range(0..3)).map(|_| object(&mut random)).collect();
        let text = match random.random_range(0..3) {
            0 => object(&mut random),
            1 => format!(" [{}]", objects.join(",")),
            _ => text(&mut random),
        };
        let media = [Media::Json, Media::Csv, Media::Form][random.random_range(0..3)].clone();
        let Ok(payload) = Payload::parse(&media, &Bytes::from(text.clone()), None) else {
            continue;
        };
        // As text: numbers may be larger than any type of ours.
        let rows: Vec<std::collections::BTreeMap<String, Box<serde_json::value::RawValue>>> =
            serde_json::from_slice(&payload.rows).unwrap_or_else(|error| panic!("{media:?} {text}: {error}"));
        assert_eq!(rows.is_empty(), payload.is_empty, "{media:?} {text}");
        for row in rows {
            assert!(row.keys().eq(&payload.keys), "{media:?} {text}");
        }
    }
}

#[test]
fn preferences_take_any_header() {
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut headers = HeaderMap::new();
        let bytes: Vec<u8> = (0..random.random_range(0..24)).map(|_| random.random()).collect();
        for value in [
            HeaderValue::from_bytes(&bytes),
            HeaderValue::from_str(&text(&mut random)),
        ] {
            headers.extend(
                value
                    .ok()
                    .map(|value| (axum::http::header::HeaderName::from_static("prefer"), value)),
            );
        }
        let prefer = Prefer::parse(&headers);
        assert!(
            prefer.check().is_ok(),
            "nothing is refused to who did not ask for strictness"
        );
    }
}
