//! Who can be embedded in whom: derived from keys, from what views show of them, and from functions of rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Cardinality, Link, Name, Relation, Relationship, Routine, load::Constraint, views};

/// A relation's columns as another relation shows them: the number below → its names above.
type Shown<'a> = (&'a Relation, HashMap<i16, Vec<&'a str>>);

/// The columns of one table's key as a view shows them, behind the place of the first.
type KeyPart<'a> = (Option<usize>, Vec<&'a str>);

/// More ways than this to show one key through views are not followed.
const MAX_COMBINATIONS: usize = 32;

/// Names of relations → relations, and who can be embedded in whom, for the exposed schemas.
pub(super) fn derive(
    mut relations: Vec<Relation>,
    constraints: &[Constraint],
    routines: &[Routine],
    exposed: &[String],
) -> (HashMap<Name, Relation>, HashMap<Name, Vec<Relationship>>) {
    let names: HashMap<i64, Name> = relations
        .iter()
        .map(|relation| (relation.oid, relation.qualified()))
        .collect();
    let surfaces = surfaces(&relations);
    let is_exposed = |relation: &Relation| exposed.contains(&relation.schema);
    let shown = |oid: i64| {
        let all = surfaces.get(&oid).map_or(&[] as &[Shown<'_>], Vec::as_slice);
        all.iter().filter(move |(relation, _)| is_exposed(relation))
    };

    let mut references: HashMap<i64, BTreeMap<String, (String, String)>> = HashMap::new();
    let unique: HashSet<(i64, Vec<i16>)> = constraints
        .iter()
        .filter(|constraint| constraint.kind != 'f')
        .map(|constraint| (constraint.relation, sorted(&constraint.columns)))
        .collect();
    // A view over several tables has the keys of all of them, in the order in which it shows them.
    let mut parts: HashMap<i64, Vec<KeyPart<'_>>> = HashMap::new();
    for key in constraints.iter().filter(|constraint| constraint.kind == 'p') {
        for (relation, columns) in shown(key.relation) {
            if let Some(names) = combinations(columns, &key.columns).into_iter().next() {
                let place = relation
                    .columns
                    .iter()
                    .position(|column| Some(&column.name.as_str()) == names.first());
                parts.entry(relation.oid).or_default().push((place, names));
            }
        }
    }
    let mut keys: HashMap<i64, Vec<String>> = HashMap::new();
    for (relation, mut parts) in parts {
        parts.sort();
        let names = parts.into_iter().flat_map(|(_, names)| names);
        keys.insert(relation, names.map(str::to_owned).collect());
    }

    let mut found: HashMap<Name, Vec<Relationship>> = HashMap::new();
    let mut many_to_one: HashMap<Name, Vec<Relationship>> = HashMap::new();
    for foreign in constraints.iter().filter(|constraint| constraint.kind == 'f') {
        let Some(target_columns) = &foreign.target_columns else {
            continue;
        };
        let is_unique = unique.contains(&(foreign.relation, sorted(&foreign.columns)));
        for (origin, origin_columns) in shown(foreign.relation) {
            for (target, shown_columns) in shown(foreign.target) {
                if origin.schema != target.schema {
                    continue;
                }
                for own in combinations(origin_columns, &foreign.columns) {
                    for theirs in combinations(shown_columns, target_columns) {
                        let (origin_name, target_name) = (origin.qualified(), target.qualified());
                        let forward = if is_unique {
                            Cardinality::OneToOne
                        } else {
                            Cardinality::ManyToOne
                        };
                        let backward = if is_unique {
                            Cardinality::OneToOne
                        } else {
                            Cardinality::OneToMany
                        };
                        let to_self = origin.oid == target.oid;
                        let relationship = |to: &Relation, cardinality, columns| Relationship {
                            target: to.qualified(),
                            target_is_view: to.view,
                            to_self,
                            link: Link::Key {
                                constraint: foreign.name.clone(),
                                cardinality,
                                columns,
                            },
                        };
                        let there = relationship(target, forward, pairs(&own, &theirs));
                        let back = relationship(origin, backward, pairs(&theirs, &own));
                        if let ([column], [their]) = (own.as_slice(), theirs.as_slice()) {
                            let reference = (target.name.clone(), (*their).to_owned());
                            let of_relation = references.entry(origin.oid).or_default();
                            // A key points to a table before it points to views of it.
                            if !target.view || !of_relation.contains_key(*column) {
                                of_relation.insert((*column).to_owned(), reference);
                            }
                        }
                        if !is_unique {
                            many_to_one.entry(origin_name.clone()).or_default().push(there.clone());
                        }
                        found.entry(origin_name.clone()).or_default().push(there);
                        found.entry(target_name).or_default().push(back);
                    }
                }
            }
        }
    }
    // Relations that meet in a hidden junction are related, though it is nobody's business how.
    let mut ways: HashMap<i64, usize> = HashMap::new();
    let foreign_keys = || constraints.iter().filter(|constraint| constraint.kind == 'f');
    for foreign in foreign_keys() {
        *ways.entry(foreign.relation).or_default() += 1;
    }
    for foreign in foreign_keys().filter(|foreign| ways[&foreign.relation] > 1) {
        if shown(foreign.relation).next().is_none() {
            for (target, _) in shown(foreign.target) {
                found.entry(target.qualified()).or_default();
            }
        }
    }
    let oids: HashMap<&Name, i64> = names.iter().map(|(oid, name)| (name, *oid)).collect();
    for (junction, ways) in &many_to_one {
        if let Some(key) = oids.get(junction).and_then(|oid| keys.get(oid)) {
            for (origin, relationship) in junctions(junction, key, ways) {
                found.entry(origin).or_default().push(relationship);
            }
        }
    }
    let views: HashSet<i64> = relations
        .iter()
        .filter(|relation| relation.view)
        .map(|relation| relation.oid)
        .collect();
    add_functions(&mut found, routines, &names, &views);
    for related in found.values_mut() {
        related.sort_by(|one, other| one.order().cmp(&other.order()));
    }

    for relation in &mut relations {
        relation.key = keys.remove(&relation.oid).unwrap_or_default();
        relation.references = references.remove(&relation.oid).unwrap_or_default();
        relation.query = None;
    }
    let served = relations
        .into_iter()
        .filter(|relation| exposed.contains(&relation.schema));
    (served.map(|relation| (relation.qualified(), relation)).collect(), found)
}

/// Every relation under each name its columns have: its own, and those of views over it.
fn surfaces(relations: &[Relation]) -> HashMap<i64, Vec<Shown<'_>>> {
    let views: HashMap<i64, HashMap<i16, views::Origin>> = relations
        .iter()
        .filter_map(|relation| Some((relation.oid, views::origins(relation.query.as_deref()?))))
        .collect();
    let mut surfaces: HashMap<i64, Vec<Shown<'_>>> = HashMap::new();
    for relation in relations {
        let mut shown: BTreeMap<i64, HashMap<i16, Vec<&str>>> = BTreeMap::new();
        for column in &relation.columns {
            let mut origin = (relation.oid, column.number);
            // A view may be over a view; it cannot be over itself, but a bound costs nothing.
            for _ in 0..64 {
                match views.get(&origin.0) {
                    Some(columns) => match columns.get(&origin.1) {
                        Some(below) => origin = *below,
                        None => break,
                    },
                    None => break,
                }
            }
            let is_traced = !views.contains_key(&origin.0);
            if is_traced {
                shown
                    .entry(origin.0)
                    .or_default()
                    .entry(origin.1)
                    .or_default()
                    .push(&column.name);
            }
        }
        for (below, columns) in shown {
            surfaces.entry(below).or_default().push((relation, columns));
        }
    }
    surfaces
}

/// The names that these columns have together; several if one of them is shown under several names.
fn combinations<'a>(shown: &HashMap<i16, Vec<&'a str>>, columns: &[i16]) -> Vec<Vec<&'a str>> {
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    for column in columns {
        let Some(names) = shown.get(column) else {
            return Vec::new();
        };
        all = all
            .iter()
            .flat_map(|begun| names.iter().map(|name| [begun.as_slice(), &[*name]].concat()))
            .take(MAX_COMBINATIONS)
            .collect();
    }
    all
}

/// Pairs of the relations that a junction's foreign keys lead to, if its key contains both.
fn junctions(junction: &Name, key: &[String], ways: &[Relationship]) -> Vec<(Name, Relationship)> {
    let in_key = |columns: &[(String, String)]| columns.iter().all(|(own, _)| key.contains(own));
    let mut found = Vec::new();
    for first in ways {
        for second in ways {
            let (
                Link::Key {
                    constraint, columns, ..
                },
                Link::Key {
                    constraint: other_constraint,
                    columns: other_columns,
                    ..
                },
            ) = (&first.link, &second.link)
            else {
                continue;
            };
            if constraint == other_constraint || !in_key(columns) || !in_key(other_columns) {
                continue;
            }
            let turned = columns
                .iter()
                .map(|(own, theirs)| (theirs.clone(), own.clone()))
                .collect();
            let relationship = Relationship {
                target: second.target.clone(),
                target_is_view: second.target_is_view,
                to_self: first.target == second.target,
                link: Link::Junction {
                    relation: junction.clone(),
                    to_origin: (constraint.clone(), turned),
                    to_target: (other_constraint.clone(), other_columns.clone()),
                },
            };
            found.push((first.target.clone(), relationship));
        }
    }
    found
}

/// Functions of a row that give rows. One named like its target replaces what was found for that pair.
fn add_functions(
    found: &mut HashMap<Name, Vec<Relationship>>,
    routines: &[Routine],
    names: &HashMap<i64, Name>,
    views: &HashSet<i64>,
) {
    for routine in routines {
        let (Some(of), Some(gives)) = (routine.of, routine.relation) else {
            continue;
        };
        let (Some(origin), Some(target)) = (names.get(&of), names.get(&gives)) else {
            continue;
        };
        let related = found.entry(origin.clone()).or_default();
        if routine.name == target.name && routine.schema == target.schema {
            related.retain(|relationship| {
                relationship.target != *target || matches!(relationship.link, Link::Function { .. })
            });
        }
        related.push(Relationship {
            target: target.clone(),
            target_is_view: views.contains(&gives),
            to_self: origin == target,
            link: Link::Function {
                function: Name::new(&routine.schema, &routine.name),
                single: !routine.set || (routine.rows - 1.0).abs() < f32::EPSILON,
            },
        });
    }
}

fn sorted(columns: &[i16]) -> Vec<i16> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns
}

fn pairs(own: &[&str], theirs: &[&str]) -> Vec<(String, String)> {
    let pairs = own.iter().zip(theirs);
    pairs
        .map(|(own, theirs)| ((*own).to_owned(), (*theirs).to_owned()))
        .collect()
}
