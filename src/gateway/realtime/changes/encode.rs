//! Values as JSON, the way Postgres' `to_jsonb` writes them.
//!
//! Two differences, which clients of Supabase Realtime know: what JSON has no number for (`NaN`, `Infinity`) is
//! null, and bytes are hex without `\x`.

use super::types::{Form, Type};
use crate::gateway::realtime::protocol::push_string;

/// Appends a value, given in Postgres' text format under `DateStyle` ISO and `TimeZone` UTC.
pub fn value(out: &mut String, text: &str, of: &Type) {
    match &of.form {
        Form::Bool => out.push_str(if text == "t" { "true" } else { "false" }),
        // NaN, Infinity and -Infinity all have an n.
        Form::Number if text.contains(['n', 'N']) => out.push_str("null"),
        Form::Number | Form::Json => out.push_str(text),
        Form::Timestamp => push_string(
            out,
            Some(&text.replacen(' ', "T", usize::from(!text.starts_with(is_letter)))),
        ),
        Form::TimestampTz => push_string(out, Some(&timestamptz(text))),
        Form::Bytea => push_string(out, Some(text.strip_prefix("\\x").unwrap_or(text))),
        Form::Text => push_string(out, Some(text)),
        Form::Array(element, delimiter) => {
            let start = out.len();
            if array(out, text, element, *delimiter).is_none() {
                // No array literal after all: int2vector is an array only in name.
                out.truncate(start);
                push_string(out, Some(text));
            }
        }
        Form::Composite(fields) => {
            let start = out.len();
            if composite(out, text, fields).is_none() {
                out.truncate(start);
                push_string(out, Some(text));
            }
        }
    }
}

fn is_letter(first: char) -> bool {
    // infinity and -infinity
    first.is_ascii_alphabetic() || first == '-'
}

/// `2024-01-02 03:04:05+00` → `2024-01-02T03:04:05+00:00`; years before Christ end in ` BC`.
fn timestamptz(text: &str) -> String {
    if text.starts_with(is_letter) {
        return text.to_owned();
    }
    let (moment, era) = text.strip_suffix(" BC").map_or((text, ""), |moment| (moment, " BC"));
    let minutes = if moment.len() > 3 && matches!(moment.as_bytes()[moment.len() - 3], b'+' | b'-') {
        ":00"
    } else {
        ""
    };
    format!("{}{minutes}{era}", moment.replacen(' ', "T", 1))
}

/// An array literal, of any number of dimensions.
fn array(out: &mut String, text: &str, element: &Type, delimiter: char) -> Option<()> {
    // Bounds other than 1 come first: [2:3]={1,2}
    let text = if text.starts_with('[') {
        text.split_once('=')?.1
    } else {
        text
    };
    if !text.starts_with('{') {
        return None;
    }
    let (mut depth, mut rest) = (0_u32, text);
    let mut first = true;
    while let Some(next) = rest.chars().next() {
        match next {
            '{' => {
                if !first {
                    out.push(',');
                }
                out.push('[');
                (depth, first, rest) = (depth + 1, true, &rest[1..]);
            }
            '}' => {
                out.push(']');
                (depth, first, rest) = (depth.checked_sub(1)?, false, &rest[1..]);
            }
            next if next == delimiter => rest = &rest[next.len_utf8()..],
            _ => {
                if !first {
                    out.push(',');
                }
                first = false;
                let (item, quoted, after) = item(rest, |c| c == delimiter || c == '}')?;
                if !quoted && item.eq_ignore_ascii_case("null") {
                    out.push_str("null");
                } else {
                    value(out, &item, element);
                }
                rest = after;
            }
        }
    }
    (depth == 0).then_some(())
}

/// A row literal.
fn composite(out: &mut String, text: &str, fields: &[(String, std::sync::Arc<Type>)]) -> Option<()> {
    let mut rest = text.strip_prefix('(')?;
    out.push('{');
    for (number, (name, of)) in fields.iter().enumerate() {
        if number > 0 {
            rest = rest.strip_prefix(',')?;
            out.push(',');
        }
        push_string(out, Some(name));
        out.push(':');
        let (text, quoted, after) = item(rest, |c| c == ',' || c == ')')?;
        if text.is_empty() && !quoted {
            out.push_str("null");
        } else {
            value(out, &text, of);
        }
        rest = after;
    }
    out.push('}');
    (rest == ")").then_some(())
}

/// One item of a literal: its text, whether it was quoted, what follows. Quotes inside quotes are doubled in rows
/// and escaped in arrays; both are read here.
fn item(text: &str, ends: impl Fn(char) -> bool) -> Option<(String, bool, &str)> {
    let (mut out, mut quoted, mut inside) = (String::new(), false, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' if inside && chars.peek().is_some_and(|(_, after)| *after == '"') => {
                chars.next();
                out.push('"');
            }
            '"' => (quoted, inside) = (true, !inside),
            '\\' => out.push(chars.next()?.1),
            next if !inside && ends(next) => return Some((out, quoted, &text[at..])),
            next => out.push(next),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn of(form: Form) -> Type {
        Type {
            name: String::new(),
            sql: String::new(),
            form,
            equal_as_text: false,
        }
    }

    fn json(text: &str, form: Form) -> String {
        let mut out = String::new();
        value(&mut out, text, &of(form));
        out
    }

    #[test]
    fn scalars() {
        assert_eq!(json("t", Form::Bool), "true");
        assert_eq!(json("9223372036854775807", Form::Number), "9223372036854775807");
        assert_eq!(json("1.50", Form::Number), "1.50");
        for nan in ["NaN", "Infinity", "-Infinity"] {
            assert_eq!(json(nan, Form::Number), "null");
        }
        assert_eq!(
            json("2024-01-02 03:04:05.6", Form::Timestamp),
            r#""2024-01-02T03:04:05.6""#
        );
        assert_eq!(
            json("2024-01-02 03:04:05+00", Form::TimestampTz),
            r#""2024-01-02T03:04:05+00:00""#
        );
        assert_eq!(
            json("0044-03-15 00:00:00+00 BC", Form::TimestampTz),
            r#""0044-03-15T00:00:00+00:00 BC""#
        );
        assert_eq!(json("-infinity", Form::TimestampTz), r#""-infinity""#);
        assert_eq!(json("infinity", Form::Timestamp), r#""infinity""#);
        assert_eq!(json("\\x00ff", Form::Bytea), r#""00ff""#);
        assert_eq!(json("a\"b\n", Form::Text), r#""a\"b\n""#);
    }

    #[test]
    fn nested_literals() {
        let text = || Form::Array(Arc::new(of(Form::Text)), ',');
        assert_eq!(json("{}", text()), "[]");
        assert_eq!(
            json(r#"{a,NULL,"NULL","x,\"\\}",""}"#, text()),
            r#"["a",null,"NULL","x,\"\\}",""]"#
        );
        let number = || Form::Array(Arc::new(of(Form::Number)), ',');
        assert_eq!(
            json("[0:1]={{1,2},{3,4}}", number()),
            "[1,2]".replace("1,2", "[1,2],[3,4]")
        );
        assert_eq!(json("1 2", number()), r#""1 2""#);
        assert_eq!(json("{1", number()), r#""{1""#);
        let row = Form::Composite(vec![
            ("a".into(), Arc::new(of(Form::Number))),
            ("b".into(), Arc::new(of(Form::Text))),
            ("c".into(), Arc::new(of(number()))),
        ]);
        assert_eq!(
            json(r#"(1,"say ""hi""","{2,3}")"#, row),
            r#"{"a":1,"b":"say \"hi\"","c":[2,3]}"#
        );
        let row = Form::Composite(vec![
            ("a".into(), Arc::new(of(Form::Number))),
            ("b".into(), Arc::new(of(Form::Text))),
        ]);
        assert_eq!(json(r#"(,"")"#, row), r#"{"a":null,"b":""}"#);
    }
}
