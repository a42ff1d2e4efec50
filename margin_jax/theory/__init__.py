"""The paper's mathematics and its rivals: pure functions, arrays and pytrees in, arrays out."""
