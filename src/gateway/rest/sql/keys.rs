//! The keys of a row: columns, embeds, and what is spread into it.

use super::super::{
    parse::select::Column,
    plan::read::{Child, Node, Output},
};

/// The keys a level puts into a row, its own and those of what is spread into it.
pub fn keys(node: &Node<'_>) -> Vec<String> {
    let mut keys = Vec::new();
    for output in &node.fields {
        match output {
            Output::Star => {
                let columns = node
                    .relation
                    .map_or(&[] as &[_], |relation| relation.columns.as_slice());
                keys.extend(columns.iter().map(|column| column.name.clone()));
            }
            Output::Column(column) => keys.push(key(column).to_owned()),
        }
    }
    for child in &node.embeds {
        if child.spread {
            keys.extend(self::keys(&child.node));
        } else if !child.node.is_empty() {
            keys.push(child.key.clone());
        }
    }
    keys
}

/// The key of a column's value.
pub fn key(column: &Column) -> &str {
    match (&column.alias, &column.aggregate, &column.field) {
        (Some(alias), ..) => alias,
        (None, Some(aggregate), _) => aggregate.function,
        (None, None, Some(field)) => field.key(),
        (None, None, None) => "count",
    }
}

/// The keys that a spread gives its parent, with the aggregates that the parent computes.
pub fn spread_keys<'a>(child: &'a Child<'_>) -> Vec<(String, Option<&'a Column>)> {
    if !child.to_one {
        return keys(&child.node).into_iter().map(|key| (key, None)).collect();
    }
    let mut all = Vec::new();
    for output in &child.node.fields {
        match output {
            Output::Star => {
                let columns = child
                    .node
                    .relation
                    .map_or(&[] as &[_], |relation| relation.columns.as_slice());
                all.extend(columns.iter().map(|column| (column.name.clone(), None)));
            }
            Output::Column(column) => {
                let aggregate = Some(column).filter(|column| column.aggregate.is_some());
                all.push((key(column).to_owned(), aggregate));
            }
        }
    }
    for inner in &child.node.embeds {
        if inner.spread {
            all.extend(spread_keys(inner));
        } else if !inner.node.is_empty() {
            all.push((inner.key.clone(), None));
        }
    }
    all
}
