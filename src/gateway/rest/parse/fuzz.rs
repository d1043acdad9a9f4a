//! No input panics a parser, hangs it, or makes it say something other than PGRST100 and its kind.

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    filter,
    media::{self, Media},
    operation, order, path,
    payload::Payload,
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
