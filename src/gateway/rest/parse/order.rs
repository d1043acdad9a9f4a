//! `order=`.

use super::{
    super::error::{Error, Result},
    cursor::{Cursor, Field},
};

/// One term of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The embed whose column it is, for an order of parents by a related row.
    pub relation: Option<String>,
    /// What to order by.
    pub field: Field,
    /// `asc` or `desc`.
    pub direction: Option<&'static str>,
    /// `nulls first` or `nulls last`.
    pub nulls: Option<&'static str>,
}

const DIRECTIONS: [(&str, &str); 2] = [("asc", "asc"), ("desc", "desc")];
const NULLS: [(&str, &str); 2] = [("nullsfirst", "nulls first"), ("nullslast", "nulls last")];

/// Reads an order; unlike other values all of it must make sense.
///
/// # Errors
/// PGRST100.
pub fn parse(value: &str) -> Result<Vec<Term>> {
    let mut cursor = Cursor::new("order", value);
    let mut terms = Vec::new();
    loop {
        cursor.spaces();
        let start = cursor.clone();
        // What fails as an order by a related row is explained as the column it then is.
        let term = related(&mut cursor).or_else(|_| {
            cursor = start;
            let field = cursor.field()?;
            directed(&mut cursor, None, field)
        });
        terms.push(term?);
        if !cursor.eat(",") {
            return Ok(terms);
        }
    }
}

/// `relation(column)` and what follows.
fn related(cursor: &mut Cursor<'_>) -> Result<Term> {
    let relation = cursor.name()?;
    if !cursor.eat("(") {
        return Err(cursor.fail("\"(\""));
    }
    let field = cursor.field()?;
    if !cursor.eat(")") {
        return Err(cursor.fail("\")\""));
    }
    directed(cursor, Some(relation), field)
}

/// The direction of a column's order, the place of nulls, and the term's end.
fn directed(cursor: &mut Cursor<'_>, relation: Option<String>, field: Field) -> Result<Term> {
    let direction = word(cursor, DIRECTIONS);
    let nulls = word(cursor, NULLS);
    cursor.spaces();
    if !(cursor.is_done() || cursor.rest().starts_with(',')) {
        return Err(no_end(cursor, direction.is_some(), nulls.is_some()));
    }
    Ok(Term {
        relation,
        field,
        direction,
        nulls,
    })
}

/// A dot and one of these words; nothing is read if there is none.
fn word(cursor: &mut Cursor<'_>, words: [(&str, &'static str); 2]) -> Option<&'static str> {
    let mut ahead = cursor.clone();
    if !ahead.eat(".") {
        return None;
    }
    let (_, sql) = words.into_iter().find(|(word, _)| ahead.eat(word))?;
    *cursor = ahead;
    Some(sql)
}

/// Why a term does not end here.
fn no_end(cursor: &Cursor<'_>, directed: bool, placed: bool) -> Box<Error> {
    let mut ahead = cursor.clone();
    match (directed, placed) {
        (_, true) => cursor.fail("\",\" or end of input"),
        (true, false) if ahead.eat(".") => ahead.fail_word("nullsfirst", "\"nullsfirst\" or \"nullslast\""),
        (true, false) => cursor.fail("delimiter (.), \",\" or end of input"),
        (false, false) if ahead.eat(".") => {
            ahead.fail_word("asc", "\"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"")
        }
        (false, false) => cursor.fail("letter, digit, \"-\", \"->>\", \"->\", delimiter (.), \",\" or end of input"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_have_direction_and_place_of_nulls() {
        let terms = parse("a.desc.nullslast, data->>b, rel(c).nullsfirst").unwrap();
        assert_eq!((terms[0].direction, terms[0].nulls), (Some("desc"), Some("nulls last")));
        assert_eq!(terms[1].field.path.len(), 1);
        assert_eq!(
            (terms[2].relation.as_deref(), terms[2].nulls),
            (Some("rel"), Some("nulls first"))
        );
    }

    #[test]
    fn nothing_may_be_left_over() {
        for bad in [
            "a.down",
            "a.asc.desc",
            "a.nullslast.asc",
            "a)",
            "",
            "a,",
            "a.asc.nullslast.x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
