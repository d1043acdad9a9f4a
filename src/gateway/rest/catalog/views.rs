//! Where the columns of a view come from.
//!
//! Postgres stores a view's query as a tree in text form. Each entry of its outermost target list says from which
//! column of which relation it comes unmodified, through joins, subqueries and grouping.

use std::collections::HashMap;

/// A column of a relation, by oid and number.
pub(super) type Origin = (i64, i16);

/// The columns of a view that come unmodified from a column of another relation: number → origin.
pub(super) fn origins(tree: &str) -> HashMap<i16, Origin> {
    let mut origins = HashMap::new();
    for entry in target_entries(tree) {
        let number = |name| field(entry, name).and_then(|value| value.parse::<i64>().ok());
        let (Some(own), Some(table), Some(column)) = (number("resno"), number("resorigtbl"), number("resorigcol"))
        else {
            continue;
        };
        let (Ok(own), Ok(column)) = (i16::try_from(own), i16::try_from(column)) else {
            continue;
        };
        if table != 0 && column > 0 && field(entry, "resjunk") == Some("false") {
            origins.insert(own, (table, column));
        }
    }
    origins
}

/// The `TARGETENTRY` nodes of the outermost query's target list.
fn target_entries(tree: &str) -> Vec<&str> {
    // `({QUERY :commandType 1 .. :targetList ({TARGETENTRY ..} ..) ..})`
    let mut entries = Vec::new();
    let (mut depth, mut start, mut in_list) = (0_usize, 0, false);
    let bytes = tree.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            // The next character is part of a name or value.
            b'\\' => at += 1,
            b'{' | b'(' => {
                depth += 1;
                if in_list && depth == 4 {
                    start = at;
                }
            }
            b'}' | b')' => {
                if in_list && depth == 4 {
                    entries.push(&tree[start..=at]);
                }
                depth = depth.saturating_sub(1);
                if in_list && depth == 2 {
                    return entries;
                }
            }
            b':' if depth == 2 && bytes[at..].starts_with(b":targetList (") => in_list = true,
            _ => {}
        }
        at += 1;
    }
    entries
}

/// A plain field of a node, not of the nodes in it.
fn field<'a>(node: &'a str, name: &str) -> Option<&'a str> {
    let bytes = node.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' | b'(' => depth += 1,
            b'}' | b')' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => {
                if let Some(value) = node[at + 1..]
                    .strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix(' '))
                {
                    return value.split([' ', '}']).next();
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_target_list_counts() {
        let tree = r"({QUERY :commandType 1 :cteList ({CTE :q {QUERY :targetList ({TARGETENTRY :resno 9 :resorigtbl 9 :resorigcol 9 :resjunk false})}}) :targetList ({TARGETENTRY :expr {VAR :varno 1 :resorigtbl 5} :resno 1 :resname a\{b :ressortgroupref 0 :resorigtbl 16400 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {CONST} :resno 2 :resname c :resorigtbl 0 :resorigcol 0 :resjunk false} {TARGETENTRY :expr {VAR} :resno 3 :resname <> :resorigtbl 16400 :resorigcol 1 :resjunk true}) :sortClause ({X :targetList (})})";
        assert_eq!(origins(tree), HashMap::from([(1, (16400, 2))]));
        assert!(origins("").is_empty() && origins("}}) :targetList ((((").is_empty());
    }
}
