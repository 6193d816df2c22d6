//! What Terraform checks of a provider's answers.

use crate::cty::{Path, Type, Value};

/// Panics where `actual` departs from `planned`: what was known must stay, what was unknown may
/// become anything.
///
/// Source: `AssertObjectCompatible` in `internal/plans/objchange/compatible.go`.
#[track_caller]
pub(super) fn assert_conforms(what: &str, ty: &Type, planned: &Value, actual: &Value) {
    let mut departures = Vec::new();
    compare(ty, planned, actual, &Path::root(), &mut departures);
    assert!(
        departures.is_empty(),
        "inconsistent result: {what} departs at {}",
        departures.join("; ")
    );
}

fn compare(ty: &Type, planned: &Value, actual: &Value, path: &Path, out: &mut Vec<String>) {
    match (ty, planned, actual) {
        (_, Value::Unknown, _) => {}
        (Type::Object(types), Value::Map(planned), Value::Map(actual)) => {
            for (name, ty) in types {
                let null = &Value::Null;
                let planned = planned.get(name).unwrap_or(null);
                compare(ty, planned, actual.get(name).unwrap_or(null), &path.attribute(name), out);
            }
        }
        (Type::Map(of), Value::Map(planned), Value::Map(actual))
            if planned.keys().eq(actual.keys()) =>
        {
            for (key, planned) in planned {
                compare(of, planned, &actual[key], &path.key(key), out);
            }
        }
        (Type::List(of), Value::List(planned), Value::List(actual))
            if planned.len() == actual.len() =>
        {
            for (index, (planned, actual)) in planned.iter().zip(actual).enumerate() {
                compare(of, planned, actual, &path.index(index), out);
            }
        }
        (Type::Set(of), Value::List(elements), Value::List(actual))
            if elements.len() == actual.len() =>
        {
            for element in elements {
                let conforms = |actual: &Value| {
                    let mut departures = Vec::new();
                    compare(of, element, actual, path, &mut departures);
                    departures.is_empty()
                };
                if !actual.iter().any(conforms) {
                    out.push(format!("{path}: planned element {element} is missing"));
                }
            }
        }
        (ty, planned, actual) if ty.normalise(planned) == ty.normalise(actual) => {}
        (_, planned, actual) => out.push(format!("{path}: planned {planned}, now {actual}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departs(ty: &Type, planned: Value, actual: Value) -> bool {
        let mut out = Vec::new();
        compare(ty, &planned, &actual, &Path::root(), &mut out);
        !out.is_empty()
    }

    #[test]
    fn only_what_was_unknown_may_change() {
        let ty = Type::object([("a", Type::String), ("s", Type::set(Type::Number))]);
        let object = |a: Value, s: Value| Value::object([("a", a), ("s", s)]);
        let set = || Value::from(vec![1, 2]);
        assert!(!departs(
            &ty,
            object(Value::Unknown, set()),
            object("x".into(), vec![2, 1].into())
        ));
        assert!(departs(&ty, object("x".into(), set()), object("y".into(), set())));
        assert!(departs(&ty, object(Value::Null, set()), object("y".into(), set())));
        assert!(departs(&ty, object("x".into(), set()), object("x".into(), vec![1, 3].into())));
    }
}
