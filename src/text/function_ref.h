// A non-owning reference to a callable: what std::function is too heavy for on a path taken once per word.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace hone::text::tok {

template <typename Signature>
class FunctionRef;

/// Refers to a callable that outlives it (a lambda named before the call, or an argument).
template <typename Result, typename... Args>
class FunctionRef<Result(Args...)> {
 public:
  template <typename Callable>
  requires(!std::is_same_v<std::remove_cvref_t<Callable>, FunctionRef>) FunctionRef(Callable&& callable)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Args... args) -> Result {
          return (*static_cast<std::remove_reference_t<Callable>*>(object))(std::forward<Args>(args)...);
        }) {}

  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  Result (*call_)(void*, Args...);
};

}  // namespace hone::text::tok
