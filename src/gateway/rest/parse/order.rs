//! `order=`.

use super::{
    super::error::Result,
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
        terms.push(term(&mut cursor)?);
        cursor.spaces();
        if cursor.is_done() {
            return Ok(terms);
        }
        if !cursor.eat(",") {
            return Err(cursor.fail("\",\" or end of input"));
        }
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<Term> {
    let mut field = cursor.field()?;
    let mut relation = None;
    if field.path.is_empty() && cursor.eat("(") {
        relation = Some(field.name);
        field = cursor.field()?;
        if !cursor.eat(")") {
            return Err(cursor.fail("\")\""));
        }
    }
    let (mut direction, mut nulls) = (None, None);
    while cursor.eat(".") {
        let word = |cursor: &mut Cursor<'_>, words: [(&'static str, &'static str); 2]| {
            let found = words.into_iter().find(|(word, _)| cursor.eat(word));
            found.map(|(_, sql)| sql)
        };
        let start = cursor.clone();
        if direction.is_none() && nulls.is_none() {
            direction = word(cursor, DIRECTIONS);
            if direction.is_some() {
                continue;
            }
        }
        let found = if nulls.is_none() { word(cursor, NULLS) } else { None };
        match found {
            Some(found) => nulls = Some(found),
            None if direction.is_some() => return Err(start.fail("\"nullsfirst\" or \"nullslast\"")),
            None => return Err(start.fail("\"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"")),
        }
    }
    Ok(Term {
        relation,
        field,
        direction,
        nulls,
    })
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
