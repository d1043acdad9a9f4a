//! Operators and their values, `[not.]op.value`.

use super::{
    super::error::{Error, Result},
    cursor::{Cursor, is_name},
};

/// An operator with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `not.` before it.
    pub negated: bool,
    /// The operator.
    pub operator: Operator,
    /// Which of the query string's filters it is; none of them inside a logic tree.
    pub number: Option<usize>,
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
    let start = cursor.clone();
    let negated = cursor.eat("not.");
    let Some(operator) = read_operator(cursor, nested)? else {
        return Err(no_operator(cursor, &start, negated));
    };
    Ok(Operation {
        negated,
        operator,
        number: None,
    })
}

/// The operator that stands here with its value; `None` if there is none, or nothing that could follow it.
fn read_operator(cursor: &mut Cursor<'_>, nested: bool) -> Result<Option<Operator>> {
    let start = cursor.clone();
    let word = cursor.take_while(|character| character.is_ascii_alphabetic());
    if word == "is" && cursor.eat(".") {
        return read_is(cursor).map(Some);
    }
    if word == "in" && cursor.eat(".") {
        return Ok(Some(Operator::In(read_list(cursor)?)));
    }
    let search = SEARCHES.into_iter().find(|(name, _)| *name == word);
    let language = search.and_then(|_| read_language(cursor));
    let known = OPERATORS.into_iter().find(|(name, ..)| *name == word);
    let quantifier = match known {
        Some((_, _, true)) if cursor.eat("(any)") => Some(Quantifier::Any),
        Some((_, _, true)) if cursor.eat("(all)") => Some(Quantifier::All),
        _ => None,
    };
    if !cursor.eat(".") {
        *cursor = start;
        return Ok(None);
    }
    if let Some((_, function)) = search {
        let value = read_value(cursor, nested);
        return Ok(Some(Operator::Search {
            function,
            language,
            value,
        }));
    }
    let Some((name, sql, _)) = known else {
        *cursor = start;
        return Ok(None);
    };
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

/// One of the words that `is` takes, in any letter case. Text behind it is dropped, or what the tree goes on with.
fn read_is(cursor: &mut Cursor<'_>) -> Result<Operator> {
    let known = IS.into_iter().find(|(name, _)| cursor.eat_ignoring_case(name));
    if let Some((_, sql)) = known {
        return Ok(Operator::Is(sql));
    }
    let matching = |name: &str| {
        let pairs = cursor.rest().chars().zip(name.chars());
        pairs
            .take_while(|(found, wanted)| found.eq_ignore_ascii_case(wanted))
            .count()
    };
    for _ in 0..IS.iter().map(|(name, _)| matching(name)).max().unwrap_or_default() {
        cursor.bump();
    }
    Err(cursor.fail("isVal: (null, not_null, true, false, unknown)"))
}

/// The text search configuration in parentheses, a plain name.
fn read_language(cursor: &mut Cursor<'_>) -> Option<String> {
    let mut ahead = cursor.clone();
    let opened = ahead.eat("(");
    let name = ahead.take_while(is_name).trim().to_owned();
    if !opened || name.is_empty() || !ahead.eat(")") {
        return None;
    }
    *cursor = ahead;
    Some(name)
}

/// Why no operator stands here: where the longest that begins here ends, or at the beginning.
fn no_operator(cursor: &Cursor<'_>, start: &Cursor<'_>, negated: bool) -> Box<Error> {
    let words = OPERATORS.iter().map(|(name, ..)| *name);
    let words = words.chain(SEARCHES.iter().map(|(name, _)| *name)).chain(["is", "in"]);
    let longest = words
        .filter(|word| cursor.rest().starts_with(word))
        .max_by_key(|word| word.len());
    let mut ahead = cursor.clone();
    match longest {
        None if negated => cursor.fail_word("in", "operator (eq, gt, ...)"),
        None => start.fail_word("not", "\"not\" or operator (eq, gt, ...)"),
        Some(word) => {
            ahead.eat(word);
            if !matches!(word, "is" | "in") {
                ahead.eat("(");
            }
            ahead.fail("operator (eq, gt, ...)")
        }
    }
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
        assert_eq!(operation("is.nullx").unwrap().operator, Operator::Is("null"));
        assert!(operation("is.nil").is_err());
    }

    #[test]
    fn what_is_no_operator_is_told_where_it_stops_to_be_one() {
        let told = |text| format!("{:?}", operation(text).unwrap_err());
        assert!(told("noop.0").contains(r#"unexpected \"o\" expecting \"not\" or operator"#));
        assert!(told("noop.0").contains("column 1)"));
        assert!(told("eq().x").contains("column 4)"));
        assert!(told("fts().x").contains("column 5)"));
        assert!(told("is().x").contains("column 3)"));
        assert!(told("not.x.1").contains("column 5)"));
        assert!(told("is.not.null").contains("column 7)"));
    }
}
