//! Queries in policies and functions: which are simple enough to be understood, and what all their rows have to meet.

use super::tree::{Node, Value};

/// `pg_proc.oid`s that never change.
pub mod function {
    /// `current_setting`, without and with `missing_ok`.
    pub const CURRENT_SETTING: [u32; 2] = [2077, 3294];
    /// Equality of int2, int4, int8, text and uuid: equal values have equal texts.
    pub const EQUAL: [u32; 5] = [63, 65, 467, 67, 2956];
    /// The cast of int4 to int8.
    pub const INT8: u32 = 481;
    /// `jsonb -> text`, `jsonb ->> text`
    pub const FIELD: [u32; 2] = [3478, 3214];
    /// `jsonb #> text[]`, `jsonb #>> text[]`
    pub const PATH: [u32; 2] = [3217, 3940];
}

/// How a sub-select is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Whether there is a row.
    Exists,
    /// One value.
    Value,
    /// Its values, in no order; the first column may equal a column of ours.
    Any(Option<i16>),
    /// Its values, in their order.
    List,
}

/// The two sides of an equality of texts' exactness, in the database's collation or none.
pub fn equal<'t>(node: &'t Node<'t>) -> Option<&'t [Value<'t>; 2]> {
    let exact = node.tag == "OPEXPR"
        && function::EQUAL.contains(&node.number("opfuncid")?)
        && matches!(node.number("inputcollid"), Some(0 | 100 | 950));
    node.get("args").list().as_array::<2>().filter(|_| exact)
}

/// The conditions that all rows of a join tree meet; `None` where a join is not an inner one.
pub fn conjuncts<'t>(node: &'t Node<'t>, into: &mut Vec<&'t Node<'t>>) -> Option<()> {
    let parts: Vec<&Value<'_>> = match node.tag {
        "FROMEXPR" => node.get("fromlist").list().iter().collect(),
        "JOINEXPR" if node.number("jointype") == Some(0) => vec![node.get("larg"), node.get("rarg")],
        "RANGETBLREF" => return Some(()),
        _ => return None,
    };
    if let Some(condition) = node.get("quals").node() {
        and(condition, into);
    }
    parts.into_iter().try_for_each(|part| conjuncts(part.node()?, into))
}

fn and<'t>(condition: &'t Node<'t>, into: &mut Vec<&'t Node<'t>>) {
    if condition.tag == "BOOLEXPR" && condition.get("boolop").word() == Some("and") {
        condition
            .get("args")
            .list()
            .iter()
            .filter_map(Value::node)
            .for_each(|part| and(part, into));
    } else {
        into.push(condition);
    }
}

/// The one query a function's body consists of.
pub fn statement<'t>(body: &'t Value<'t>) -> Option<&'t Node<'t>> {
    match body {
        Value::Node(query) => Some(query),
        Value::List(only) => match only.as_slice() {
            [only] => statement(only),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a query has one row at most: it reads none, or another such query alone.
pub fn one_row(query: &Node<'_>) -> bool {
    let entries = query.get("rtable").list();
    entries.iter().all(|entry| {
        let query = entry.node().filter(|entry| entry.number("rtekind") == Some(1));
        query
            .and_then(|entry| entry.get("subquery").node())
            .is_some_and(one_row)
    }) && !query.is("hasTargetSRFs")
}

/// Whether a query selects, joins and filters, and does nothing else.
pub fn is_simple(query: &Node<'_>, how: Use) -> bool {
    let without = [
        "cteList",
        "groupClause",
        "groupingSets",
        "havingQual",
        "windowClause",
        "distinctClause",
        "limitOffset",
        "rowMarks",
        "setOperations",
        "returningList",
        "utilityStmt",
        "onConflict",
        "mergeActionList",
        "withCheckOptions",
    ];
    let nothing = |field: &&str| match query.get(field) {
        Value::Nothing => true,
        value => value.list().is_empty() && value.word().is_none() && value.node().is_none(),
    };
    // Whether there is a row does not depend on how many are wanted, unless it is none.
    let limited = match query.get("limitCount") {
        Value::Nothing => false,
        Value::Node(count) if how == Use::Exists => !is_positive(count),
        _ => true,
    };
    query.number("commandType") == Some(1)
        && without.iter().all(nothing)
        && !limited
        && [
            "hasAggs",
            "hasWindowFuncs",
            "hasDistinctOn",
            "hasModifyingCTE",
            "hasForUpdate",
        ]
        .iter()
        .all(|flag| !query.is(flag))
        && (how != Use::List || is_ordered(query))
}

/// Whether the order of a list of values follows from the values.
fn is_ordered(query: &Node<'_>) -> bool {
    let targets = query.get("targetList").list().iter().filter_map(Value::node);
    let Some(shown) = targets
        .filter(|target| !target.is("resjunk"))
        .map(|target| target.get("ressortgroupref"))
        .next()
    else {
        return false;
    };
    let orders = query.get("sortClause").list().iter().filter_map(Value::node);
    orders.into_iter().any(|order| order.get("tleSortGroupRef") == shown)
}

/// Whether a limit is a number above zero.
fn is_positive(count: &Node<'_>) -> bool {
    match count.tag {
        "CONST" => count
            .constant()
            .is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)),
        "FUNCEXPR" if count.number("funcid") == Some(function::INT8) => count
            .get("args")
            .list()
            .first()
            .and_then(Value::node)
            .is_some_and(is_positive),
        _ => false,
    }
}
