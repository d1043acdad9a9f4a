//! No input panics a parser, hangs it, or makes it say something other than PGRST100 and its kind.

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    cursor::Cursor,
    filter,
    media::{self, Media},
    operation::{self, Operator},
    order, path,
    payload::Payload,
    prefer::Prefer,
    query::{Plain, Query, decode_form},
    range::{Range, Window},
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
    for seed in 0..20_000 {
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
        let _ = Cursor::new("columns parameter", &text).names();
        let _ = Media::parse(&text);
        let keyed =
            format!("columns={text}&on_conflict={text}&select={text}&order={text}&or=({text})&{text}&limit={text}");
        for query in [&text, &keyed] {
            let pairs = decode_form(query);
            let _ = Query::parse(&pairs, Plain::Filters, &[]);
            let _ = Query::parse(&pairs, Plain::Arguments, &[]);
        }
        let body = Bytes::from(text.clone());
        for media in [Media::Json, Media::Csv, Media::Form] {
            let _ = Payload::parse(&media, &body, None);
            let _ = Payload::parse(&media, &body, Some(std::slice::from_ref(&text)));
        }
    }
}

/// A text in quotes, as clients write what has a meaning otherwise.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn what_is_quoted_is_taken_as_it_is() {
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut name = text(&mut random);
        name.push('x');
        let written = quoted(&name);
        match select::parse(&written, &[]).unwrap().as_slice() {
            [select::Item::Column(column)] => assert_eq!(column.field.as_ref().unwrap().name, name),
            other => panic!("{written}: {other:?}"),
        }
        let (path, field) = filter::tree_path(&written).unwrap();
        assert_eq!((path.as_slice(), &field.name), (&[] as &[String], &name));
        let terms = order::parse(&format!("{written}.desc,{written}")).unwrap();
        assert!(
            terms.len() == 2 && terms.iter().all(|term| term.field.name == name),
            "{terms:?}"
        );
        let names = Cursor::new("columns parameter", &format!("{written},{written}")).names();
        assert_eq!(names.unwrap(), [name.as_str(); 2]);
        match operation::operation(&format!("in.({written},{written})"))
            .unwrap()
            .operator
        {
            Operator::In(values) => assert_eq!(values, [name.as_str(); 2]),
            other => panic!("{written}: {other:?}"),
        }
    }
}

#[test]
fn a_range_never_asks_for_fewer_than_no_rows() {
    let number = |random: &mut SmallRng| match random.random_range(0..4) {
        0 => None,
        1 => Some(random.random_range(-3..20)),
        2 => Some(random.random()),
        _ => Some([i64::MIN, i64::MAX, 0][random.random_range(0..3)]),
    };
    for seed in 0..40_000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let window = Window {
            limit: number(&mut random),
            offset: number(&mut random),
        };
        let header = match random.random_range(0..3) {
            0 => text(&mut random),
            1 => format!("{}-", number(&mut random).unwrap_or_default()),
            _ => format!(
                "{}-{}",
                number(&mut random).unwrap_or_default(),
                number(&mut random).unwrap_or_default()
            ),
        };
        for header in [None, Some(header.as_str())] {
            let Ok(range) = Range::requested(window, header) else {
                continue;
            };
            let capped = range.capped(Some(5));
            for range in [range, capped] {
                assert!(
                    range.first >= 0 && range.limit().is_none_or(|rows| rows >= 0),
                    "{window:?} {header:?}"
                );
            }
            assert!(capped.limit().is_some_and(|rows| rows <= 5), "{window:?} {header:?}");
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
