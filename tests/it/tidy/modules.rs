//! Finds cycles of imports between the modules of a crate.

use std::collections::{BTreeMap, BTreeSet};

mod source;

use source::{Code, code};

/// Path of a module as the names from the crate's root on; the root is the empty path.
type ModulePath = Vec<String>;

/// Largest number of re-exports that are followed for one path. The limit ends the search for names
/// that re-export themselves.
const MAX_REEXPORTS: usize = 8;

/// Sibling modules that import each other in a cycle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// Path of their parent module: `crate` or `crate::…`.
    pub parent: String,
    /// Names of the siblings in the cycle.
    pub siblings: Vec<String>,
    /// The imports inside the cycle, each as `a -> b (files)`.
    pub imports: Vec<String>,
}

/// Finds the cycles among the top-level modules, and among the sibling modules in each module.
///
/// `sources` are (path, text) of the crate's source files; a path looks like `src/face/track.rs`.
/// Items under `#[cfg(test)]` do not count. A parent may use its children, and a child the items of
/// its parent. A name that a module re-exports counts as an import of the module that defines it
/// too.
pub(super) fn cycles(sources: &[(String, String)]) -> Vec<Cycle> {
    let tree = Tree::read(sources);
    let siblings = tree.sibling_imports();
    let mut found = Vec::new();
    for (parent, imports) in &siblings {
        let edges = imports
            .keys()
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        for group in circular(&edges) {
            let inside = |name: &String| group.contains(name.as_str());
            found.push(Cycle {
                parent: [&["crate".to_owned()], parent.as_slice()]
                    .concat()
                    .join("::"),
                siblings: group.iter().map(|name| (*name).to_owned()).collect(),
                imports: imports
                    .iter()
                    .filter(|((from, to), _)| inside(from) && inside(to))
                    .map(|((from, to), files)| {
                        let files: Vec<&str> = files.iter().map(String::as_str).collect();
                        format!("{from} -> {to} ({})", files.join(", "))
                    })
                    .collect(),
            });
        }
    }
    found
}

/// Groups of at least two nodes in which each node can be reached from each other one.
fn circular<'a>(edges: &BTreeSet<(&'a str, &'a str)>) -> Vec<BTreeSet<&'a str>> {
    let reachable = |start: &'a str| {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(at) = waiting.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| *from == at) {
                if reached.insert(*to) {
                    waiting.push(*to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges
        .iter()
        .map(|(from, _)| (*from, reachable(from)))
        .collect();
    let both_ways = |a: &str, b: &str| {
        let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|set| set.contains(to));
        reaches(a, b) && reaches(b, a)
    };
    let groups: BTreeSet<BTreeSet<&str>> = reached
        .keys()
        .map(|node| {
            let others = reached.keys().filter(|other| both_ways(node, other));
            others.copied().collect()
        })
        .collect();
    groups.into_iter().filter(|group| group.len() > 1).collect()
}

/// The imports between siblings: (importing module, imported module) to the files that import.
type SiblingImports = BTreeMap<(String, String), BTreeSet<String>>;

/// A module's file and its parsed code.
struct Module {
    file: String,
    code: Code,
}

/// All modules of the crate.
struct Tree {
    modules: BTreeMap<ModulePath, Module>,
}

impl Tree {
    /// Parses the sources. Modules that exist only in tests are left out.
    fn read(sources: &[(String, String)]) -> Self {
        let mut modules = BTreeMap::new();
        let mut only_in_tests: BTreeSet<ModulePath> = BTreeSet::new();
        for (file, text) in sources {
            let path = module_path(file);
            let code = code(text);
            for name in &code.test_modules {
                only_in_tests.insert(child(&path, name));
            }
            let file = file.clone();
            modules.insert(path, Module { file, code });
        }
        modules.retain(|path, _| (1..=path.len()).all(|n| !only_in_tests.contains(&path[..n])));
        Self { modules }
    }

    /// The imports between sibling modules, by the path of their parent.
    fn sibling_imports(&self) -> BTreeMap<ModulePath, SiblingImports> {
        let mut found: BTreeMap<ModulePath, SiblingImports> = BTreeMap::new();
        for (from, module) in &self.modules {
            let mut imported = BTreeSet::new();
            for path in &module.code.paths {
                self.follow(from, path, MAX_REEXPORTS, &mut imported);
            }
            for to in imported {
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                // An import between a parent and its descendant is not one between siblings.
                if shared == from.len() || shared == to.len() {
                    continue;
                }
                found
                    .entry(from[..shared].to_vec())
                    .or_default()
                    .entry((from[shared].clone(), to[shared].clone()))
                    .or_default()
                    .insert(module.file.clone());
            }
        }
        found
    }

    /// Adds the modules that the path `path` in the module `from` refers to: the module that it
    /// names, and the modules from which its name is re-exported. At most `reexports` re-exports
    /// are followed.
    fn follow(
        &self,
        from: &[String],
        path: &[String],
        reexports: usize,
        imported: &mut BTreeSet<ModulePath>,
    ) {
        let Some(first) = path.first() else { return };
        let (mut at, rest) = match first.as_str() {
            "crate" => (ModulePath::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" if from.is_empty() => return,
            "super" => (from[..from.len() - 1].to_vec(), &path[1..]),
            name if self.modules.contains_key(&child(from, name)) => (from.to_vec(), path),
            name if self.uses(from, name).is_some() => (from.to_vec(), path),
            _ => return,
        };
        for (position, name) in rest.iter().enumerate() {
            if name == "super" && !at.is_empty() {
                at.pop();
            } else if self.modules.contains_key(&child(&at, name)) {
                at.push(name.clone());
            } else if let Some(origin) = self.uses(&at, name).filter(|_| reexports > 0) {
                let path = [origin, &rest[position + 1..]].concat();
                self.follow(&at, &path, reexports - 1, imported);
                break;
            } else {
                break;
            }
        }
        imported.insert(at);
    }

    /// The path from which `module` imports `name`; `None` if it does not import it.
    fn uses(&self, module: &[String], name: &str) -> Option<&[String]> {
        let uses = &self.modules.get(module)?.code.uses;
        uses.get(name).map(Vec::as_slice)
    }
}

/// Path of the child module `name` of `module`.
fn child(module: &[String], name: &str) -> ModulePath {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

/// Path of the module in a file: `src/face/track.rs` is `face::track`, `src/face/mod.rs` is `face`,
/// `src/lib.rs` is the root.
fn module_path(file: &str) -> ModulePath {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut names: ModulePath = path.split('/').map(str::to_owned).collect();
    if names
        .last()
        .is_some_and(|name| name == "mod" || path == "lib")
    {
        names.pop();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Cycle, circular, cycles};

    /// Owned copies of (path, text) pairs.
    fn sources(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        files.iter().map(owned).collect()
    }

    /// (Parent, siblings) of each cycle in these files.
    fn groups(files: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
        let found = cycles(&sources(files));
        let group = |cycle: Cycle| (cycle.parent, cycle.siblings);
        found.into_iter().map(group).collect()
    }

    fn group(parent: &str, siblings: &[&str]) -> (String, Vec<String>) {
        let siblings = siblings.iter().map(|name| (*name).to_owned()).collect();
        (parent.to_owned(), siblings)
    }

    #[test]
    fn nodes_that_reach_each_other_form_a_group() {
        let ladder = [("a", "b"), ("b", "c"), ("a", "c")];
        assert!(circular(&ladder.into()).is_empty());
        let two = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")];
        assert_eq!(
            circular(&two.into()),
            [["a", "b"].into(), ["c", "d"].into()]
        );
    }

    #[test]
    fn modules_without_a_cycle_pass() {
        let files = [
            (
                "src/lib.rs",
                "pub mod low; pub mod high; pub use high::Tower;",
            ),
            ("src/low.rs", "use std::fmt; pub struct Stone;"),
            (
                "src/high/mod.rs",
                "mod base; mod roof;\npub struct Tower; pub const HEIGHT: u8 = 2;\n\
                 use roof::Roof; fn build() { base::lay(); }",
            ),
            // This file imports an item of its parent, and a lower module.
            (
                "src/high/base.rs",
                "use super::HEIGHT; use crate::low::Stone; pub fn lay() {}",
            ),
            (
                "src/high/roof.rs",
                "use super::{Tower, base::{self, lay}};\n// super::super::none\n\
                 const TEXT: &str = \"crate::none::x\"; pub struct Roof;",
            ),
        ];
        assert_eq!(groups(&files), []);
    }

    #[test]
    fn a_cycle_of_top_level_modules_is_found_with_its_files() {
        let files = [
            ("src/a/mod.rs", "mod inner;"),
            ("src/a/inner.rs", "use crate::{c::C, b::{B, More}};"),
            ("src/b.rs", "fn b() -> u8 { crate::c::value() }"),
            ("src/c.rs", "use super::a;"),
            ("src/d.rs", "use crate::a; use crate::b;"),
        ];
        let imports = [
            "a -> b (src/a/inner.rs)",
            "a -> c (src/a/inner.rs)",
            "b -> c (src/b.rs)",
            "c -> a (src/c.rs)",
        ];
        let cycle = Cycle {
            parent: "crate".to_owned(),
            siblings: ["a", "b", "c"].map(str::to_owned).into(),
            imports: imports.map(str::to_owned).into(),
        };
        assert_eq!(cycles(&sources(&files)), [cycle]);
    }

    #[test]
    fn a_cycle_of_siblings_is_found() {
        let files = [
            ("src/m.rs", "mod a; mod b; mod c;"),
            ("src/m/a.rs", "use super::b::B;"),
            ("src/m/b/mod.rs", "mod deep;"),
            ("src/m/b/deep.rs", "fn f() { super::super::a::f(); }"),
            ("src/m/c.rs", "use super::{a, b};"),
        ];
        assert_eq!(groups(&files), [group("crate::m", &["a", "b"])]);
    }

    #[test]
    fn a_re_exported_name_counts_as_an_import_of_its_origin() {
        let parent = "mod a; mod b; pub use a::{A, Other as Renamed}; use b::B;";
        let files = [
            ("src/m.rs", parent),
            ("src/m/a.rs", "use crate::m::B;"),
            ("src/m/b.rs", "use crate::m; fn f() -> m::Renamed {}"),
        ];
        assert_eq!(groups(&files), [group("crate::m", &["a", "b"])]);
        // The cycle passes only through the crate's root.
        let files = [
            ("src/lib.rs", "pub use a::A; pub use b::B;"),
            ("src/a.rs", "use crate::B;"),
            ("src/b.rs", "use super::A;"),
        ];
        assert_eq!(groups(&files), [group("crate", &["a", "b"])]);
    }

    #[test]
    fn tests_may_import_in_a_cycle() {
        let files = [
            (
                "src/a.rs",
                "#[cfg(test)]\nuse crate::b::{B, C};\npub struct A;\n\
                 #[cfg(test)]\nmod tests { use crate::b::B; fn f() { {} } }",
            ),
            (
                "src/b.rs",
                "use crate::a::A; #[cfg(test)] mod scene; pub use b::B;",
            ),
            ("src/c.rs", "use crate::b::B;"),
            ("src/b/scene.rs", "use crate::c::C;"),
        ];
        assert_eq!(groups(&files), []);
    }
}
