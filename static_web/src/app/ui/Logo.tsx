export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#4056c7" />
      <rect x="7" y="8" width="5" height="16" rx="1.5" fill="#fff" opacity=".95" />
      <rect x="13.5" y="8" width="5" height="10" rx="1.5" fill="#fff" opacity=".75" />
      <rect x="20" y="8" width="5" height="13" rx="1.5" fill="#fff" opacity=".55" />
    </svg>
  );
}
