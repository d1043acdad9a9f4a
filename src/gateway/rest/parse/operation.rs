//! Operators and their values, `[not.]op.value`.

use super::{super::error::Result, cursor::Cursor};

/// An operator with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `not.` before it.
    pub negated: bool,
    /// The operator.
    pub operator: Operator,
}

/// An operator with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// An SQL operator between column and value.
    Binary {
        /// As in the query.
        name: &'static str,
        /// As in SQL.
        sql: &'static str,
        /// The value is an array, of which one element or every element must fit.
        quantifier: Option<Quantifier>,
        /// The other side.
        value: String,
    },
    /// `is`, followed by one of SQL's words.
    Is(&'static str),
    /// One of a list.
    In(Vec<String>),
    /// Full text search.
    Search {
        /// The function that makes the query.
        function: &'static str,
        /// The text search configuration.
        language: Option<String>,
        /// What to search for.
        value: String,
    },
}

/// Over an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// One fits.
    Any,
    /// Every one fits.
    All,
}

/// Query name, SQL operator, whether it may be quantified.
const OPERATORS: [(&str, &str, bool); 19] = [
    ("eq", "=", true),
    ("gte", ">=", true),
    ("gt", ">", true),
    ("lte", "<=", true),
    ("lt", "<", true),
    ("like", "like", true),
    ("ilike", "ilike", true),
    ("match", "~", true),
    ("imatch", "~*", true),
    ("neq", "<>", false),
    ("isdistinct", "is distinct from", false),
    ("cs", "@>", false),
    ("cd", "<@", false),
    ("ov", "&&", false),
    ("sl", "<<", false),
    ("sr", ">>", false),
    ("nxr", "&<", false),
    ("nxl", "&>", false),
    ("adj", "-|-", false),
];

const SEARCHES: [(&str, &str); 4] = [
    ("fts", "to_tsquery"),
    ("plfts", "plainto_tsquery"),
    ("phfts", "phraseto_tsquery"),
    ("wfts", "websearch_to_tsquery"),
];

const IS: [(&str, &str); 5] = [
    ("not_null", "not null"),
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("unknown", "unknown"),
];

/// The value of a filter, `[not.]op.value`.
///
/// # Errors
/// PGRST100.
pub fn operation(value: &str) -> Result<Operation> {
    read_operation(&mut Cursor::new("filter", value), false)
}

/// Whether an rpc argument's value was meant to be a filter, so that failing to read it is an error.
pub fn looks_like_operation(value: &str) -> bool {
    ["not.", "is.", "in."].iter().any(|prefix| value.starts_with(prefix))
}

/// Reads an operation; inside a logic tree its value ends at `,` or `)`.
///
/// # Errors
/// PGRST100.
pub fn read_operation(cursor: &mut Cursor<'_>, nested: bool) -> Result<Operation> {
    let negated = cursor.eat("not.");
    let expecting = if negated {
        "operator (eq, gt, ...)"
    } else {
        "\"not\" or operator (eq, gt, ...)"
    };
    let start = cursor.clone();
    let word = cursor.take_while(|character| character.is_ascii_alphabetic());
    let operator = read_operator(cursor, word, nested)?;
    let Some(operator) = operator else {
        return Err(start.fail(expecting));
    };
    Ok(Operation { negated, operator })
}

/// The operator of that name; `None` if there is none, or nothing that could follow it.
fn read_operator(cursor: &mut Cursor<'_>, word: &str, nested: bool) -> Result<Option<Operator>> {
    if word == "is" && cursor.eat(".") {
        let ends = |cursor: &Cursor<'_>| cursor.is_done() || (nested && cursor.rest().starts_with([',', ')', ' ']));
        for (name, sql) in IS {
            let mut ahead = cursor.clone();
            if ahead.eat_ignoring_case(name) && ends(&ahead) {
                *cursor = ahead;
                return Ok(Some(Operator::Is(sql)));
            }
        }
        return Err(cursor.fail("isVal: (null, not_null, true, false, unknown)"));
    }
    if word == "in" && cursor.eat(".") {
        return Ok(Some(Operator::In(read_list(cursor)?)));
    }
    if let Some((_, function)) = SEARCHES.into_iter().find(|(name, _)| *name == word) {
        let mut language = None;
        if cursor.eat("(") {
            language = Some(cursor.take_while(|character| character != ')').to_owned());
            cursor.eat(")");
        }
        if !cursor.eat(".") {
            return Ok(None);
        }
        let value = read_value(cursor, nested);
        return Ok(Some(Operator::Search {
            function,
            language,
            value,
        }));
    }
    let Some((name, sql, quantifiable)) = OPERATORS.into_iter().find(|(name, ..)| *name == word) else {
        return Ok(None);
    };
    let quantifier = match quantifiable {
        true if cursor.eat("(any)") => Some(Quantifier::Any),
        true if cursor.eat("(all)") => Some(Quantifier::All),
        _ => None,
    };
    if !cursor.eat(".") {
        return Ok(None);
    }
    let mut value = read_value(cursor, nested);
    if matches!(name, "like" | "ilike") {
        value = value.replace('*', "%");
    }
    Ok(Some(Operator::Binary {
        name,
        sql,
        quantifier,
        value,
    }))
}

/// A value: everything outside a logic tree; in one a quoted text, an array, or all up to `,` or `)`.
fn read_value(cursor: &mut Cursor<'_>, nested: bool) -> String {
    if !nested {
        return cursor.take_while(|_| true).to_owned();
    }
    if let Some(text) = quoted_element(cursor) {
        return text;
    }
    let start = cursor.clone();
    if cursor.eat("{") {
        let inner = cursor.take_while(|character| !"{}".contains(character));
        if cursor.eat("}") {
            return format!("{{{inner}}}");
        }
        *cursor = start;
    }
    cursor.take_while(|character| !",)".contains(character)).to_owned()
}

/// A quoted text that is followed by nothing, `,` or `)`; otherwise its quotes belong to the value.
fn quoted_element(cursor: &mut Cursor<'_>) -> Option<String> {
    let start = cursor.clone();
    let text = cursor.quoted();
    if text.is_some() && (cursor.is_done() || cursor.rest().starts_with([',', ')'])) {
        return text;
    }
    *cursor = start;
    None
}

fn read_list(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    cursor.spaces();
    if !cursor.eat("(") {
        return Err(cursor.fail("\"(\""));
    }
    cursor.spaces();
    let mut elements = Vec::new();
    loop {
        let element = quoted_element(cursor)
            .unwrap_or_else(|| cursor.take_while(|character| !",)".contains(character)).to_owned());
        elements.push(element);
        if !cursor.eat(",") {
            break;
        }
    }
    if !cursor.eat(")") {
        return Err(cursor.fail("\",\" or \")\""));
    }
    // Nothing between the parentheses is no element, not an empty one.
    if elements == [""] {
        elements.clear();
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        match operation(text).unwrap().operator {
            Operator::Binary { value, .. } => value,
            operator => panic!("{operator:?}"),
        }
    }

    fn list(text: &str) -> Vec<String> {
        match operation(text).unwrap().operator {
            Operator::In(list) => list,
            operator => panic!("{operator:?}"),
        }
    }

    #[test]
    fn values_are_taken_as_they_are() {
        assert_eq!(value("eq."), "");
        assert_eq!(value("eq.a.b,c)"), "a.b,c)");
        assert_eq!(value("like.*x%_"), "%x%_");
        assert_eq!(value("eq(any).{1,2}"), "{1,2}");
        assert!(operation("neq(any).{1}").is_err());
        assert!(operation("0").is_err());
        assert!(operation("not.eq").is_err());
        assert!(operation("not_null.1").is_err());
    }

    #[test]
    fn lists_unquote_only_whole_elements() {
        assert_eq!(list(r#"in.(a,"b,\"c",d"e")"#), ["a", r#"b,"c"#, r#"d"e""#]);
        assert_eq!(list(r#"in.("a"b,c)"#), [r#""a"b"#, "c"]);
        assert!(list("in.()").is_empty() && list("in.(   )").is_empty());
        assert_eq!(list("in.(,)"), ["", ""]);
        assert!(operation("in.1,2").is_err() && operation("in.(1").is_err());
    }

    #[test]
    fn is_takes_words_only() {
        assert_eq!(operation("not.is.NULL").unwrap().operator, Operator::Is("null"));
        assert_eq!(operation("is.not_null").unwrap().operator, Operator::Is("not null"));
        assert!(operation("is.nullx").is_err() && operation("is.null)").is_err());
    }
}
