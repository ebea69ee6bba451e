"""Wrong arguments, chosen by what they reach: atheris (libFuzzer) drives two properties of test_properties.py.

    python tests/guided.py arguments -max_total_time=300 -max_len=512 -len_control=0
    python tests/guided.py sizes -max_total_time=300 -max_len=512 -len_control=0

What follows the name goes to libFuzzer.  The first failing value ends the run with its traceback; hypothesis turns
libFuzzer's bytes into the same values that `make test` tries, so that a failure can become an example there.
"""

import sys

import atheris

with atheris.instrument_imports(include=["pymec"]):
    import test_properties

PROPERTIES = {
    "arguments": test_properties.test_a_wrong_argument_is_named_and_leaves_out_alone,
    "sizes": test_properties.test_a_wrong_size_is_named,
}

if __name__ == "__main__":
    if sys.argv[1:2] not in [[name] for name in PROPERTIES]:
        sys.exit(f"usage: python tests/guided.py {{{','.join(PROPERTIES)}}} [libFuzzer's options]")
    chosen = PROPERTIES[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], chosen.hypothesis.fuzz_one_input)
    atheris.Fuzz()
