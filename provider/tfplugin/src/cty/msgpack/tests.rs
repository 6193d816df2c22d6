use proptest::prelude::*;

use super::*;

/// A type with a value of it.
fn typed() -> impl Strategy<Value = (Type, Value)> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|b| (Type::Bool, Value::Bool(b))),
        any::<i64>().prop_map(|i| (Type::Number, Value::from(i))),
        (-1.0e9..1.0e9f64).prop_map(|f| (Type::Number, Value::from(f))),
        ".{0,20}".prop_map(|s| (Type::String, Value::String(s))),
        Just((Type::String, Value::Null)),
        Just((Type::Number, Value::Unknown)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(ty, v)| (Type::list(ty), Value::List(vec![v.clone(), v]))),
            inner.clone().prop_map(|(ty, v)| {
                let set = Type::set(ty);
                let value = set.normalise(&Value::List(vec![v, Value::Null]));
                (set, value)
            }),
            (inner.clone(), "[a-z]{1,5}")
                .prop_map(|((ty, v), key)| { (Type::map(ty), Value::object([(key, v)])) }),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4).prop_map(|fields| {
                let ty = Type::object(fields.iter().map(|(k, (ty, _))| (k.clone(), ty.clone())));
                (ty, Value::object(fields.into_iter().map(|(k, (_, v))| (k, v))))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_wire((ty, value) in typed()) {
        let bytes = encode(&value, &ty).unwrap();
        prop_assert_eq!(decode(&bytes, &ty).unwrap(), value);
    }
}

#[test]
fn dynamic_values_carry_their_type() {
    let value = Value::object([("a", Value::from(vec!["x", "y"])), ("n", Value::from(1))]);
    let bytes = encode(&value, &Type::Dynamic).unwrap();
    assert_eq!(decode(&bytes, &Type::Dynamic).unwrap(), value);
}

#[test]
fn a_fraction_goes_as_decimal_text() {
    assert_eq!(encode(&Value::from(0.1), &Type::Number).unwrap(), b"\xa30.1");
    let value = decode(b"\xa30.1", &Type::Number).unwrap();
    assert_eq!(value, Value::from(0.1));
}

#[test]
fn every_extension_code_is_unknown() {
    assert_eq!(decode(&[0xd4, 0, 0], &Type::String).unwrap(), Value::Unknown);
    // ext8, two bytes, code 12: refinements.
    assert_eq!(decode(&[0xc7, 2, 12, 0x81, 0x01], &Type::String).unwrap(), Value::Unknown);
}

#[test]
fn a_decode_error_names_its_place() {
    let ty = Type::object([("nics", Type::list(Type::object([("mtu", Type::Number)])))]);
    let text = Type::object([("nics", Type::list(Type::object([("mtu", Type::String)])))]);
    let value = Value::object([("nics", vec![Value::object([("mtu", "big")])])]);
    let error = decode(&encode(&value, &text).unwrap(), &ty).unwrap_err();
    assert_eq!(error.path.to_string(), "nics[0].mtu");
    assert!(error.to_string().starts_with("nics[0].mtu: a number is needed"), "{error}");
}

#[test]
fn an_object_is_written_whole_and_with_nothing_else() {
    let ty = Type::object([("a", Type::String), ("b", Type::String)]);
    let bytes = encode(&Value::object([("a", "x")]), &ty).unwrap();
    assert!(decode(&bytes, &ty).unwrap().get("b").is_null());
    let error = encode(&Value::object([("c", "x")]), &ty).unwrap_err();
    assert_eq!(error.problem, "the schema has no attribute c");
}

mod fuzz {
    use super::*;

    fn types() -> [Type; 2] {
        let fields = [("a", Type::list(Type::Dynamic)), ("b", Type::map(Type::Number))];
        [Type::object(fields), Type::Dynamic]
    }

    #[test]
    fn noise_is_never_a_panic() {
        weft_fuzz::fuzz(256, prop::collection::vec(any::<u8>(), 0..64), |bytes| {
            types().iter().for_each(|ty| drop(decode(&bytes, ty)));
            Ok(())
        });
    }

    #[test]
    fn spoiled_values_are_never_a_panic() {
        let value = Value::object([
            ("a", Value::from(vec!["x", "y"])),
            ("b", Value::object([("n", Value::from(1))])),
        ]);
        let good: Vec<_> = types().iter().filter_map(|ty| encode(&value, ty).ok()).collect();
        assert!(!good.is_empty());
        weft_fuzz::fuzz(256, weft_fuzz::hostile(good), |bytes| {
            types().iter().for_each(|ty| drop(decode(&bytes, ty)));
            Ok(())
        });
    }

    /// States are JSON, of whoever may write the state file.
    #[test]
    fn spoiled_states_are_never_a_panic() {
        let good = br#"{"a":[{"type":"string","value":"x"}],"b":{"n":1,"m":-1.5e300}}"#.to_vec();
        weft_fuzz::fuzz(256, weft_fuzz::hostile(vec![good]), |bytes| {
            if let Ok(json) = serde_json::from_slice(&bytes) {
                types().iter().for_each(|ty| drop(crate::cty::json::decode(&json, ty)));
            }
            Ok(())
        });
    }
}
