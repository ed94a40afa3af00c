# cmake -DOUTPUT=header -DSOURCES=directories -P: a hash of all sources in the directories, as a constant. What was
# made by other code has another name.
set(hashes "")
foreach(directory ${SOURCES})
  file(GLOB_RECURSE files ${directory}/*.cpp ${directory}/*.h)
  list(SORT files)
  foreach(file ${files})
    file(SHA256 ${file} hash)
    string(APPEND hashes ${hash})
  endforeach()
endforeach()
string(SHA256 hash "${hashes}")
string(SUBSTRING ${hash} 0 16 hash)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n\n/// A hash of the sources that turn rows into tokens.\ninline constexpr char kTokenizationHash[] = \"${hash}\";\n")
