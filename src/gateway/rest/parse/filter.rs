//! Filters' columns and logic trees.

use super::{
    super::error::Result,
    cursor::{Cursor, Field, NAME},
    operation::{Operation, read_operation},
};

/// A condition on rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A test of one column.
    Test(Test),
    /// Several conditions, joined.
    Group(Group),
}

/// Conditions that all, or of which one, must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `not.` before it.
    pub negated: bool,
    /// `or` instead of `and`.
    pub any: bool,
    /// What is joined, one at least.
    pub members: Vec<Condition>,
}

/// A test of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is tested.
    pub field: Field,
    /// How.
    pub operation: Operation,
}

/// Groups deeper than this are refused: each level is a level of recursion here and in Postgres.
const MAX_DEPTH: usize = 100;

/// The key of a filter: embeds on the way, and the column.
///
/// # Errors
/// PGRST100. Text behind a complete key is dropped.
pub fn tree_path(key: &str) -> Result<(Vec<String>, Field)> {
    let mut cursor = Cursor::new("tree path", key);
    let mut path = vec![cursor.name()?];
    while cursor.eat(".") {
        path.push(cursor.name()?);
    }
    let name = path.pop().unwrap_or_default();
    let json = cursor.json_path()?;
    Ok((path, Field { name, path: json }))
}

/// The key of a logic tree: embeds on the way, whether it is negated, and whether it says `or`.
///
/// # Errors
/// PGRST100.
pub fn logic_path(key: &str) -> Result<(Vec<String>, bool, bool)> {
    let mut cursor = Cursor::new("logic path", key);
    let mut path = vec![cursor.name()?];
    while cursor.eat(".") {
        path.push(cursor.name()?);
    }
    let any = path.pop().as_deref() == Some("or");
    let negated = path.last().is_some_and(|last| last == "not");
    if negated {
        path.pop();
    }
    Ok((path, negated, any))
}

/// The value of a logic tree, `(..)`.
///
/// # Errors
/// PGRST100. Text behind a complete tree is dropped.
pub fn group(negated: bool, any: bool, value: &str) -> Result<Group> {
    // The operator is read with its value, and messages count it.
    let word = if any { "or" } else { "and" };
    let text = format!("{word}{value}");
    let mut cursor = Cursor::hiding("logic tree", &text, word.len());
    cursor.eat(word);
    let members = read_members(&mut cursor, 0)?;
    Ok(Group { negated, any, members })
}

fn read_members(cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<Condition>> {
    cursor.spaces();
    if depth > MAX_DEPTH || !cursor.eat("(") {
        return Err(cursor.fail("\"(\""));
    }
    let mut members = Vec::new();
    loop {
        cursor.spaces();
        members.push(read_condition(cursor, depth)?);
        if !cursor.eat_spaced(",") {
            break;
        }
    }
    cursor.spaces();
    if !cursor.eat(")") {
        return Err(cursor.fail("\",\" or \")\""));
    }
    Ok(members)
}

fn read_condition(cursor: &mut Cursor<'_>, depth: usize) -> Result<Condition> {
    let start = cursor.clone();
    let no_test = match read_test(cursor) {
        Ok(test) => return Ok(Condition::Test(test)),
        Err(error) => error,
    };
    *cursor = start.clone();
    let negated = cursor.eat("not.");
    let any = match () {
        () if cursor.eat("and") => false,
        () if cursor.eat("or") => true,
        () if negated => return Err(cursor.fail_word("and", "logic operator (and, or)")),
        () if cursor.name().is_ok() => return Err(no_test),
        () => {
            let expecting = "negation operator (not) or logic operator (and, or)";
            return Err(start.fail(&format!("{NAME}, {expecting}")));
        }
    };
    let members = read_members(cursor, depth + 1)?;
    Ok(Condition::Group(Group { negated, any, members }))
}

fn read_test(cursor: &mut Cursor<'_>) -> Result<Test> {
    let field = cursor.field()?;
    if !cursor.eat(".") {
        return Err(cursor.fail("letter, digit, \"-\", \"->>\", \"->\" or delimiter (.)"));
    }
    let operation = read_operation(cursor, true)?;
    Ok(Test { field, operation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_nest_and_end_values_at_commas() {
        let tree = group(
            false,
            true,
            r#"(a.eq."x,(y)", not.and(b.in.(1,2),c.cs.{3,4}),or_x.is.null)dropped"#,
        );
        let tree = tree.unwrap();
        assert_eq!(tree.members.len(), 3);
        let Condition::Group(inner) = &tree.members[1] else {
            panic!()
        };
        assert!(inner.negated && inner.members.len() == 2);
        let refused = group(false, true, "()").unwrap_err();
        assert!(format!("{refused:?}").contains(r#"logic tree (())\" (line 1, column 4)"#));
        assert!(group(false, false, &"(and".repeat(5_000)).is_err());
    }

    #[test]
    fn what_is_no_condition_is_explained_as_what_it_comes_nearest_to() {
        let details = |value| format!("{:?}", group(false, true, value).unwrap_err());
        assert!(details("(ord(id.eq.1))").contains("column 6"));
        assert!(details("(not.xor(id.eq.1))").contains(r#"unexpected \"x\" expecting logic operator (and, or)"#));
        assert!(details("(id.in.1,2)").contains(r#"unexpected \"1\" expecting \"(\""#));
    }
}
