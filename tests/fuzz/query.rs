//! Query strings, whole and in their parts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchboard::gateway::rest::parse::{
    cursor::Cursor,
    filter, operation, order, path,
    query::{Plain, Query, decode_form},
    range::Range,
    select,
};

fuzz_target!(|text: &str| {
    let pairs = decode_form(text);
    for plain in [Plain::Filters, Plain::Arguments] {
        if let Ok(query) = Query::parse(&pairs, plain, &[]) {
            let _ = Range::requested(query.window(), Some(text));
        }
    }
    let _ = path::parse(text);
    let _ = select::parse(text, &["auth.users"]);
    let _ = order::parse(text);
    let _ = operation::operation(text);
    let _ = filter::tree_path(text);
    let _ = filter::logic_path(text);
    let _ = filter::group(false, true, text);
    let _ = Cursor::new("columns parameter", text).names();
});
