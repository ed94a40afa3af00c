// What the tests share a precompiled header of is in CMakeLists.txt; a library needs a source.
